//! A decision as HTTP header fields.
//!
//! `RateLimit-Policy` and `RateLimit` as in the IETF draft *RateLimit header fields for HTTP*
//! (draft-ietf-httpapi-ratelimit-headers, text of September 2025), `Retry-After` as in RFC 9110, section 10.2.3. Seconds
//! are rounded up, so that who waits that long is never too early.

use super::decision::{Decision, Verdict};
use super::rule::Rule;
use crate::error::ConfigError;
use std::fmt::{self, Write};

/// Longest name of a policy.
const MAX_NAME: usize = 64;
const NS_PER_S: u64 = 1_000_000_000;

/// The name of a policy: 1 to 64 printable ASCII characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyName<'a>(&'a str);

impl<'a> PolicyName<'a> {
    /// The name, if it can stand in a header.
    pub fn new(name: &'a str) -> Result<Self, ConfigError> {
        let is_printable = name.bytes().all(|byte| (0x20..0x7F).contains(&byte));
        if is_printable && (1..=MAX_NAME).contains(&name.len()) {
            return Ok(Self(name));
        }
        let allowed = "1 to 64 printable ASCII characters";
        Err(ConfigError { argument: "policy_name", value: name.len() as u64, allowed })
    }

    /// Value of `RateLimit-Policy`: the quota `q` of a window of `w` seconds.
    ///
    /// ```
    /// use elixirscope::limiter::{PolicyName, Rule};
    ///
    /// let mut field = String::new();
    /// PolicyName::new("api")?.write_policy(&Rule::new(10, 60_000_000_000, 10)?, &mut field).unwrap();
    /// assert_eq!(field, r#""api";q=10;w=60"#);
    /// # Ok::<(), elixirscope::error::ConfigError>(())
    /// ```
    pub fn write_policy(&self, rule: &Rule, out: &mut impl Write) -> fmt::Result {
        self.write_quoted(out)?;
        write!(out, ";q={};w={}", rule.tokens(), rule.period_ns().div_ceil(NS_PER_S))
    }

    /// Value of `RateLimit`: `r` tokens remain, and after `t` seconds there are more: all, or, after a refusal, enough.
    pub fn write_limit(&self, decision: &Decision, out: &mut impl Write) -> fmt::Result {
        self.write_quoted(out)?;
        write!(out, ";r={};t={}", decision.remaining, seconds_until_more(decision))
    }

    fn write_quoted(&self, out: &mut impl Write) -> fmt::Result {
        out.write_char('"')?;
        for character in self.0.chars() {
            if matches!(character, '"' | '\\') {
                out.write_char('\\')?;
            }
            out.write_char(character)?;
        }
        out.write_char('"')
    }
}

impl Decision {
    /// Value of `Retry-After` in seconds, at least 1; none when admitted, and when no wait can help.
    pub const fn retry_after_s(&self) -> Option<u64> {
        match self.verdict {
            Verdict::Allowed | Verdict::Never => None,
            Verdict::Limited | Verdict::TableFull => Some(self.retry_after_ns.div_ceil(NS_PER_S)),
        }
    }
}

fn seconds_until_more(decision: &Decision) -> u64 {
    decision.retry_after_s().unwrap_or(decision.reset_after_ns.div_ceil(NS_PER_S))
}
