//! How much room there is: in the map, which is a part of the address space, and on the disk. Pages that were
//! freed in the file count for both.

use heed::{Env, WithoutTls};

use super::{folder::Folder, schema::Tables};
use crate::{config, store::Shortage};

/// Pages of LMDB's own.
const META_PAGES: usize = 2;

/// What may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Plenty,
    /// Nothing but what makes room: deletions and requests to vanish.
    ForDeletions(Shortage),
    /// Nothing that a client sends. The rest is kept for sweeps.
    ForSweeps(Shortage),
}

impl Room {
    fn of(free: u64, reserve: u64, shortage: Shortage) -> Self {
        match free {
            free if free >= reserve => Self::Plenty,
            free if free >= reserve / 2 => Self::ForDeletions(shortage),
            _ => Self::ForSweeps(shortage),
        }
    }

    /// What there is too little of for an event; deletions make room.
    pub fn shortage_for(self, is_deletion: bool) -> Option<Shortage> {
        match self {
            Self::Plenty => None,
            Self::ForDeletions(_) if is_deletion => None,
            Self::ForDeletions(shortage) | Self::ForSweeps(shortage) => Some(shortage),
        }
    }

    /// What may still be written after a write has met the end.
    pub fn after(self, shortage: Shortage) -> Option<Self> {
        match self {
            Self::Plenty => Some(Self::ForDeletions(shortage)),
            Self::ForDeletions(_) => Some(Self::ForSweeps(shortage)),
            Self::ForSweeps(_) => None,
        }
    }
}

/// What is kept free.
#[derive(Debug, Clone, Copy)]
pub struct Reserve {
    disk: u64,
    map: u64,
}

impl From<&config::Lmdb> for Reserve {
    fn from(config: &config::Lmdb) -> Self {
        Self { disk: config.min_free_bytes, map: config.reserve_bytes }
    }
}

impl Reserve {
    /// Looks at the disk and the map. What a small map keeps is an eighth of it.
    pub fn look(&self, env: &Env<WithoutTls>, tables: &Tables, folder: &Folder) -> heed::Result<Room> {
        let (info, unnamed) = (env.info(), env.unnamed_database_stat());
        let bytes = |pages: usize| pages.saturating_mul(unnamed.page_size as usize) as u64;
        let (map_size, in_use) = (info.map_size as u64, info.last_page_number + 1);
        let map_reserve = self.map.min(map_size / 8);
        let on_disk = folder.free_bytes()?;
        // The pages that were freed in the file make it only more, and to count them takes a look at each table.
        if on_disk >= self.disk && map_size.saturating_sub(bytes(in_use)) >= map_reserve {
            return Ok(Room::Plenty);
        }
        let pages = |stat: heed::DatabaseStat| stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
        let txn = env.read_txn()?;
        let mut used = META_PAGES + pages(unnamed);
        for table in tables.all() {
            used += pages(table.stat(&txn)?);
        }
        let freed = bytes(in_use.saturating_sub(used));
        let disk = Room::of(on_disk.saturating_add(freed), self.disk, Shortage::Disk);
        let map = Room::of(map_size.saturating_sub(bytes(used)), map_reserve, Shortage::Map);
        Ok(if disk == Room::Plenty { map } else { disk })
    }
}
