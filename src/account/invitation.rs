//! Invitations: codes by which somebody may sign up where not everybody may.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Accounts, Refused,
    code::{digest, secret_code},
    kept,
};
use crate::{
    clock,
    protocol::{PublicKey, Timestamp},
    store::records::RecordKind,
};

const DAY: u64 = 24 * 60 * 60;

/// Accounts that one invitation may be for: its record says which.
const MAX_USES: u32 = 500;
const MAX_DAYS: u64 = 3_650;

/// An invitation, as it is told once.
#[derive(Debug, Clone)]
pub struct Invitation {
    pub code: String,
    pub uses: u32,
    pub expires_at: Timestamp,
}

/// The record of an invitation. Its key is the digest of the code.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct InvitationRecord {
    uses: u32,
    expires_at: Timestamp,
    /// The accounts that were made by it.
    used_by: Vec<PublicKey>,
}

impl InvitationRecord {
    fn has_room(&self) -> bool {
        self.used_by.len() < self.uses as usize
    }

    /// For how many seconds more it is good.
    fn left(&self) -> u64 {
        self.expires_at.saturating_sub(clock::now())
    }
}

impl Accounts {
    /// Makes an invitation.
    ///
    /// # Errors
    /// It can not be so, or the store does not answer.
    pub async fn invite(&self, uses: u32, days: u64) -> Result<Invitation, Refused> {
        if !(1..=MAX_USES).contains(&uses) {
            return Err(Refused::unfit("uses", format!("an invitation is for 1 to {MAX_USES} accounts")));
        }
        if !(1..=MAX_DAYS).contains(&days) {
            return Err(Refused::unfit("days", format!("an invitation is good for 1 to {MAX_DAYS} days")));
        }
        let (code, expires_at) = (secret_code(), clock::now() + days * DAY);
        let record = InvitationRecord { uses, expires_at, used_by: Vec::new() };
        let (store, key, life) = (&*self.0.store, digest(&code), Duration::from_secs(days * DAY));
        kept::write(store, RecordKind::Invitation, &key, None, &record, Some(life)).await?;
        Ok(Invitation { code, uses, expires_at })
    }

    /// Whether an invitation is good for one more.
    pub(super) async fn find_invitation(&self, code: &str) -> Result<(), Refused> {
        let found =
            kept::read::<InvitationRecord>(&*self.0.store, RecordKind::Invitation, &digest(code)).await?;
        let is_good = |record: &InvitationRecord| record.left() > 0 && record.has_room();
        found.filter(|kept| is_good(&kept.value)).map(drop).ok_or(Refused::Invitation)
    }

    /// Spends one use of an invitation for an account.
    pub(super) async fn spend(&self, code: &str, account: PublicKey) -> Result<(), Refused> {
        self.change_invitation(code, |record| {
            if !record.has_room() {
                return Err(Refused::Invitation);
            }
            record.used_by.push(account);
            Ok(())
        })
        .await
    }

    /// Gives it back: the account has not become one.
    pub(super) async fn unspend(&self, code: &str, account: PublicKey) -> Result<(), Refused> {
        self.change_invitation(code, |record| {
            record.used_by.retain(|used_by| *used_by != account);
            Ok(())
        })
        .await
    }

    async fn change_invitation(
        &self,
        code: &str,
        mut change: impl FnMut(&mut InvitationRecord) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        const RACES: usize = 16;
        let (store, key) = (&*self.0.store, digest(code));
        for _ in 0..RACES {
            let found = kept::read::<InvitationRecord>(store, RecordKind::Invitation, &key).await?;
            let mut kept = found.ok_or(Refused::Invitation)?;
            let left = kept.value.left();
            if left == 0 {
                return Err(Refused::Invitation);
            }
            change(&mut kept.value)?;
            let life = Some(Duration::from_secs(left));
            let written =
                kept::write(store, RecordKind::Invitation, &key, Some(kept.version), &kept.value, life)
                    .await?;
            if written.is_some() {
                return Ok(());
            }
        }
        Err(Refused::Contended)
    }
}
