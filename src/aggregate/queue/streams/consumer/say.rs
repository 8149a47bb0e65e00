//! Says what becomes of the entries of a partition.

use std::{sync::Arc, time::Duration};

use redis::{RedisResult, aio::MultiplexedConnection};
use tokio::{sync::mpsc, time::sleep};
use tracing::warn;

use super::{
    super::{
        super::{Entry, Word},
        entry::{EVENTS, GROUP, Place, StreamId, name_of},
        retry,
    },
    Held,
};
use crate::{
    aggregate::flight::Number,
    bus::redis::{Partition, Servers},
};

/// Words that are said in one round trip.
const WORDS: usize = 250;
/// The stream of words of a process that is gone is kept for so long.
const WORDS_LAST: Duration = Duration::from_secs(3_600);

/// Says words and takes out what is finished, all of them or none. Also where Redis has no memory left: what would give
/// some back may not wait for some.
const SAY: &str = "\
#!lua flags=allow-oom
for at = 3, #ARGV, 5 do
  local words, number, entry, word, is_finished = KEYS[tonumber(ARGV[at])], unpack(ARGV, at + 1, at + 4)
  redis.call('XADD', words, '*', 'number', number, 'entry', entry, 'word', word)
  redis.call('EXPIRE', words, ARGV[2])
  if is_finished == '1' then
    redis.call('XACK', KEYS[1], ARGV[1], entry)
    redis.call('XDEL', KEYS[1], entry)
  end
end";

/// A word that is to be said.
#[derive(Clone)]
struct ToSay {
    id: StreamId,
    words: String,
    number: Number,
    word: Word,
}

/// Says what becomes of the entries of a partition.
pub struct Drain {
    words: mpsc::UnboundedSender<ToSay>,
}

impl Drain {
    pub fn start(servers: Arc<Servers>, partition: Partition, held: Arc<Held>) -> Self {
        // Bounded by what was taken: the window of the consumer.
        let (words, to_say) = mpsc::unbounded_channel();
        tokio::spawn(say_all(servers, partition, held, to_say));
        Self { words }
    }

    pub fn say(&self, entry: &Entry, place: &Place, word: Word) {
        let words = place.life.words();
        // It ends with the process.
        let _ = self.words.send(ToSay { id: place.id, words, number: entry.number, word });
    }
}

async fn say_all(
    servers: Arc<Servers>,
    partition: Partition,
    held: Arc<Held>,
    mut to_say: mpsc::UnboundedReceiver<ToSay>,
) {
    let mut backoff = retry();
    let mut connection = None;
    let mut words = Vec::new();
    while to_say.recv_many(&mut words, WORDS).await > 0 {
        // What is said twice is heard once.
        while let Err(error) = say(&servers, partition, &mut connection, &words).await {
            connection = None;
            if backoff.attempts() == 0 {
                warn!(partition, "what has become of other relays' events is said later: {error:#}");
            }
            sleep(backoff.fail()).await;
        }
        backoff.succeed();
        for said in words.drain(..) {
            if matches!(said.word, Word::Finished(_)) {
                held.remove(said.id);
            }
        }
    }
}

async fn say(
    servers: &Servers,
    partition: Partition,
    connection: &mut Option<MultiplexedConnection>,
    words: &[ToSay],
) -> anyhow::Result<()> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(servers.connect(partition).await?),
    };
    // The first is that of the events, the others are those of words.
    let mut keys = vec![servers.key(partition, EVENTS)];
    let mut arguments: Vec<String> = vec![GROUP.to_owned(), WORDS_LAST.as_secs().to_string()];
    for ToSay { id, words, number, word } in words {
        let key = servers.key(partition, words);
        let nth = keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            keys.push(key);
            keys.len() - 1
        });
        let is_finished = matches!(word, Word::Finished(_));
        arguments.extend([
            (nth + 1).to_string(),
            number.to_string(),
            id.to_string(),
            name_of(*word).to_owned(),
        ]);
        arguments.push(u8::from(is_finished).to_string());
    }
    let said: RedisResult<()> =
        redis::cmd("EVAL").arg(SAY).arg(keys.len()).arg(keys).arg(arguments).query_async(connection).await;
    Ok(said?)
}
