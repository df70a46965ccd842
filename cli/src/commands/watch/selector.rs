//! Which containers are recorded: by the pod's namespace and labels, by image, and a share of the starts.

use std::fmt;

use regex::Regex;
use tracer_ebpf::cri::PodInfo;

#[derive(clap::Args)]
#[group(id = "selector", multiple = true)]
#[command(next_help_heading = "Selector")]
pub(crate) struct SelectorArgs {
    /// Record pods of this namespace only; may be repeated for further namespaces
    #[arg(long, value_name = "NAME")]
    namespace: Vec<String>,
    /// Record pods with this label only; may be repeated, all labels must match
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Record images only whose reference matches
    #[arg(long, value_name = "REGEX")]
    image: Option<Regex>,
    /// Record a random share of the starts, from 0 to 1
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    share: f64,
}

#[derive(Debug, Clone)]
pub(crate) struct Selector {
    namespaces: Vec<String>,
    labels: Vec<(String, String)>,
    image: Option<Regex>,
    share: f64,
}

impl SelectorArgs {
    pub(crate) fn selector(&self) -> Selector {
        Selector {
            namespaces: self.namespace.clone(),
            labels: self.label.clone(),
            image: self.image.clone(),
            share: self.share,
        }
    }
}

impl Selector {
    /// Whether to record a container. `draw` is a number in [0, 1), always the same for the same container.
    pub(crate) fn matches(&self, pod: &PodInfo, image: &str, draw: f64) -> bool {
        let labelled = |(key, value): &(String, String)| pod.labels.get(key) == Some(value);
        (self.namespaces.is_empty() || self.namespaces.contains(&pod.namespace))
            && self.labels.iter().all(labelled)
            && self.image.as_ref().is_none_or(|regex| regex.is_match(image))
            && draw < self.share
    }
}

/// The end of "containers with ...".
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if !self.namespaces.is_empty() {
            words.push(format!("namespace {}", self.namespaces.join(" or ")));
        }
        words.extend(self.labels.iter().map(|(key, value)| format!("label {key}={value}")));
        words.extend(self.image.iter().map(|regex| format!("image matching {regex}")));
        if words.is_empty() {
            words.push("any image".into());
        }
        if self.share < 1.0 {
            words.push(format!("{} % of the starts", self.share * 100.0));
        }
        f.write_str(&words.join(", "))
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SelectorArgs,
    }

    fn selector(words: &[&str]) -> Selector {
        Line::try_parse_from([&["watch"], words].concat()).unwrap().args.selector()
    }

    #[test]
    fn all_flags_must_match() {
        let labels = [("app".to_owned(), "root".to_owned()), ("tier".to_owned(), "batch".to_owned())];
        let pod = PodInfo { namespace: "physics".into(), name: "p".into(), labels: labels.into() };
        let image = "registry.example.org/root:6.32";
        let cases: [(&[&str], f64, bool); 10] = [
            (&[], 0.99, true),
            (&["--namespace=physics"], 0.0, true),
            (&["--namespace=other"], 0.0, false),
            (&["--namespace=other", "--namespace=physics"], 0.0, true),
            (&["--label=app=root", "--label=tier=batch"], 0.0, true),
            (&["--label=app=root", "--label=tier=web"], 0.0, false),
            (&["--image=/root:"], 0.0, true),
            (&["--image=^root:"], 0.0, false),
            (&["--share=0.5"], 0.49, true),
            (&["--share=0.5"], 0.5, false),
        ];
        for (words, draw, expected) in cases {
            assert_eq!(selector(words).matches(&pod, image, draw), expected, "{words:?}");
        }
        let text = selector(&["--namespace=a", "--label=b=c", "--image=d", "--share=0.5"]).to_string();
        assert_eq!(text, "namespace a, label b=c, image matching d, 50 % of the starts");
    }

    #[test]
    fn malformed_values_are_refused() {
        for word in ["--share=2", "--share=x", "--label=x", "--label==x", "--image=("] {
            assert!(Line::try_parse_from(["watch", word]).is_err(), "{word}");
        }
    }
}
