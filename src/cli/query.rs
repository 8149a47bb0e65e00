//! `rookery query`: stored events that match flags and, where wanted, a word.

use anyhow::bail;
use clap::{Args, ValueEnum};
use tokio::select;

use super::{
    filter_flags::FilterFlags,
    folder::{DataFlag, FolderPages},
    output::{Printer, reader_gone},
    progress::Progress,
    relay_flag::RelayFlag,
    run_async,
    secret::KeyFlags,
    source::EventSource,
    time,
};
use crate::{client::PAGE, protocol::Event};

/// Most events that are shown oldest first: all of them are held in memory.
const MAX_ASCENDING: usize = 100_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Prints the newest events that match. A keyword is looked for in the content, whatever its case; the \
relay is paged backwards until enough is found, so narrow it with --since or --kind.

Example:  rookery query --kind 1 --keyword rookery --amount 5
          rookery query --author npub1… --since 7d --order-by asc --data ./rookery-data")]
pub struct QueryArgs {
    /// Events wanted
    #[arg(long, visible_alias = "limit", value_name = "COUNT", default_value_t = 20)]
    amount: usize,
    /// Newest first (desc), or the same events oldest first (asc)
    #[arg(long, value_name = "ORDER", default_value = "desc")]
    order_by: Order,
    /// Only events whose content holds this, whatever its case
    #[arg(long, value_name = "WORD")]
    keyword: Option<String>,
    /// Print JSON, one event a line; so it is anyway where the output is no terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataFlag,
    #[command(flatten)]
    relay: RelayFlag,
    #[command(flatten)]
    key: KeyFlags,
    #[command(flatten)]
    filter: FilterFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    Desc,
    Asc,
}

struct Query {
    amount: usize,
    keyword: Option<String>,
    order: Order,
    printer: Printer,
}

pub fn run(args: QueryArgs) -> anyhow::Result<()> {
    if args.order_by == Order::Asc && args.amount > MAX_ASCENDING {
        bail!("--order-by asc holds all events in memory: ask for {MAX_ASCENDING} at most");
    }
    let source = match &args.data.data {
        Some(folder) => {
            EventSource::Folder(FolderPages::open(folder, args.data.load()?, args.filter.filter())?)
        }
        None => {
            let endpoint = args.relay.endpoint(args.key.load()?)?;
            // A search has to look at more than it shows.
            let page = if args.keyword.is_some() { PAGE } else { args.amount.clamp(1, PAGE) };
            EventSource::relay(endpoint, args.filter.filter(), page)
        }
    };
    let query = Query {
        amount: args.amount,
        keyword: args.keyword.map(|word| word.to_lowercase()),
        order: args.order_by,
        printer: Printer::new(args.json),
    };
    run_async(async {
        select! {
            ended = query.run(source) => ended,
            () = reader_gone() => Ok(()),
        }
    })
}

impl Query {
    async fn run(mut self, mut source: EventSource) -> anyhow::Result<()> {
        let mut progress = Progress::new("looked at", None);
        let (mut found, mut looked_at, mut kept) = (0, 0_u64, Vec::new());
        while found < self.amount {
            let Some(page) = source.next_page().await? else { break };
            looked_at += page.len() as u64;
            if self.keyword.is_some()
                && let Some(oldest) = page.last()
            {
                let note = format!(", back to {}", time::format(oldest.created_at()));
                progress.update(looked_at, looked_at, &note);
            }
            let matching = page.into_iter().filter(|event| matches(self.keyword.as_deref(), event));
            let matching: Vec<Event> = matching.take(self.amount - found).collect();
            self.printer.look_up(&matching, |filter| source.again(filter)).await;
            found += matching.len();
            for event in matching {
                if self.order == Order::Asc {
                    kept.push(event);
                } else if !progress.aside(|| self.printer.print(&event))? {
                    return Ok(());
                }
            }
        }
        progress.finish();
        for event in kept.iter().rev() {
            if !self.printer.print(event)? {
                return Ok(());
            }
        }
        if source.unusable() > 0 {
            eprintln!("left out {} events that are not valid or were not asked for", source.unusable());
        }
        source.close().await;
        Ok(())
    }
}

fn matches(keyword: Option<&str>, event: &Event) -> bool {
    keyword.is_none_or(|word| event.content().to_lowercase().contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sign::Keys;

    #[test]
    fn a_keyword_is_found_whatever_its_case() {
        let event = Keys::generate().sign(1, 1, Default::default(), "Ein \"ÄRGER\"");
        assert!(matches(Some("ärger"), &event));
        assert!(matches(Some("\"är"), &event));
        assert!(!matches(Some("pubkey"), &event));
        assert!(matches(None, &event));
    }
}
