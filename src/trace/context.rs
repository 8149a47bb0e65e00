//! Where a span stands: the ids that travel with a message, as W3C Trace Context writes them.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// A span of a trace that is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    pub trace: TraceId,
    pub span: SpanId,
}

/// What somebody else said of the trace that a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remote {
    pub context: Context,
    pub sampled: bool,
}

impl Context {
    /// The first span of a new trace.
    pub(super) fn root() -> Self {
        Self { trace: TraceId::from(rand::random::<u128>()), span: new_span() }
    }

    /// Another span of the same trace.
    pub(super) fn child(self) -> Self {
        Self { span: new_span(), ..self }
    }

    /// The `traceparent` header that tells others of this span.
    pub fn traceparent(self) -> String {
        format!("00-{}-{}-01", self.trace, self.span)
    }

    /// Reads a `traceparent` header; `None` where it is malformed, or the trace is not sampled.
    pub fn parse(traceparent: &str) -> Option<Self> {
        Remote::parse(traceparent).filter(|remote| remote.sampled).map(|remote| remote.context)
    }

    pub(super) fn of(context: &SpanContext) -> Option<Self> {
        let known = context.is_valid() && context.is_sampled();
        known.then(|| Self { trace: context.trace_id(), span: context.span_id() })
    }

    pub(super) fn span_context(self, remote: bool) -> SpanContext {
        SpanContext::new(self.trace, self.span, TraceFlags::SAMPLED, remote, TraceState::NONE)
    }
}

impl Remote {
    /// Of later versions the beginning is read, as the standard asks.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let well_formed = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
        if !well_formed || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let sampled = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?).is_sampled();
        (trace != TraceId::INVALID && span != SpanId::INVALID)
            .then_some(Self { context: Context { trace, span }, sampled })
    }
}

fn new_span() -> SpanId {
    SpanId::from(rand::random::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_or_are_none() {
        let context = Context::root();
        assert_eq!(Context::parse(&context.traceparent()), Some(context));
        let child = context.child();
        assert!(child.trace == context.trace && child.span != context.span);
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(Context::parse(header).map(Context::traceparent).as_deref(), Some(header));
        assert!(Remote::parse(&header.replace("-01", "-00")).is_some_and(|remote| !remote.sampled));
        assert!(Remote::parse(&format!("cc{}-more", &header[2..])).is_some());
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(Remote::parse(bad), None, "{bad}");
        }
    }
}
