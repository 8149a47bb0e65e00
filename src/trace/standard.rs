//! The variables that OpenTelemetry has agreed upon. The exporter and the resource read theirs themselves
//! (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, …); here are those that stand
//! for a setting of ours.

/// What they say of the setting that has this variable; its own variable wins.
pub fn standard(variable: &str, env: impl Fn(&str) -> Option<String>) -> Option<String> {
    let first = |names: &[&str]| names.iter().find_map(|name| env(name).filter(|value| !value.is_empty()));
    let off = || {
        first(&["OTEL_SDK_DISABLED"]).is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || first(&["OTEL_TRACES_EXPORTER"]).is_some_and(|value| value == "none")
    };
    match variable {
        "ROOKERY_TRACES_OTLP" if off() => None,
        "ROOKERY_TRACES_OTLP" => first(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
            .or_else(|| first(&["OTEL_EXPORTER_OTLP_ENDPOINT"]).map(|base| of_traces(&base))),
        "ROOKERY_TRACES_PROTOCOL" => {
            first(&["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"])
        }
        "ROOKERY_TRACES_RATIO" => match first(&["OTEL_TRACES_SAMPLER"])?.trim_start_matches("parentbased_") {
            "always_on" => Some("1".into()),
            "always_off" => Some("0".into()),
            "traceidratio" => first(&["OTEL_TRACES_SAMPLER_ARG"]).or_else(|| Some("1".into())),
            _ => None,
        },
        "ROOKERY_TRACES_QUEUE" => first(&["OTEL_BSP_MAX_QUEUE_SIZE"]),
        "ROOKERY_TRACES_EXPORT_BATCH" => first(&["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"]),
        "ROOKERY_TRACES_EXPORT_INTERVAL_MS" => first(&["OTEL_BSP_SCHEDULE_DELAY"]),
        "ROOKERY_TRACES_EXPORT_TIMEOUT_MS" => {
            first(&["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"])
        }
        _ => None,
    }
}

/// The address of traces under one for all signals. One without a path may be of either protocol, and gets its
/// path when that is known.
fn of_traces(base: &str) -> String {
    let base = base.trim_end_matches('/');
    let after_scheme = base.split_once("://").map_or(base, |(_, rest)| rest);
    match after_scheme.contains('/') {
        true => format!("{base}/v1/traces"),
        false => base.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(setting: &str, env: &[(&str, &str)]) -> Option<String> {
        let env =
            |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        standard(setting, env)
    }

    #[test]
    fn standard_variables_stand_for_settings() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/base/");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:4317");
        let otlp = |env: &[(&str, &str)]| of("ROOKERY_TRACES_OTLP", env);
        assert_eq!(otlp(&[base]).as_deref(), Some("http://c:4318/base/v1/traces"));
        assert_eq!(otlp(&[base, traces]).as_deref(), Some("http://t:4317"));
        assert_eq!(otlp(&[base, ("OTEL_SDK_DISABLED", "true")]), None);
        assert_eq!(otlp(&[base, ("OTEL_TRACES_EXPORTER", "none")]), None);
        let ratio = |env: &[(&str, &str)]| of("ROOKERY_TRACES_RATIO", env);
        let sampler = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
        assert_eq!(ratio(&[sampler, ("OTEL_TRACES_SAMPLER_ARG", "0.25")]).as_deref(), Some("0.25"));
        assert_eq!(ratio(&[("OTEL_TRACES_SAMPLER", "always_off")]).as_deref(), Some("0"));
        assert_eq!(ratio(&[]), None);
        assert_eq!(of("ROOKERY_LISTEN", &[base]), None);
    }
}
