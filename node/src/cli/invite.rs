//! `invite`: prints a code that admits one site once.

use super::Context;
use super::ground::Ground;
use clap::Args;
use node::control::{self, Request};
use node::failure::Failure;
use node::units::{parse_duration, span};
use serde_json::json;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct Arguments {
    /// How long the code admits
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    expires: Duration,
}

const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// Makes the invitation, at the running node or in the directory.
pub async fn run(context: &Context, arguments: Arguments) -> Result<u8, Failure> {
    if arguments.expires.is_zero() || arguments.expires > LONGEST {
        return Err(Failure::usage(
            "An invitation lasts between a second and a year.",
            "Leave --expires away for a day.",
        ));
    }
    let lifetime_ms = u64::try_from(arguments.expires.as_millis()).unwrap_or(u64::MAX);
    let code = match Ground::find(context).await? {
        Ground::Running(directory) => {
            let answer = control::ask(&directory, &Request::Invite { lifetime_ms }).await?;
            answer["code"].as_str().unwrap_or_default().to_owned()
        }
        Ground::Resting { engine, .. } => {
            let lifetime = i64::try_from(lifetime_ms).unwrap_or(i64::MAX);
            let code = engine.step("invite", move |engine| engine.invite(lifetime)).await;
            engine.close().await.map_err(Failure::from)?;
            code.map_err(Failure::from)?.to_string()
        }
    };
    context.say(&format!(
        "Give this code to the other site within {}; it admits one site, once. This site must run \
         while the other joins.",
        span(arguments.expires.as_secs_f64())
    ));
    context.print(&json!({ "code": code, "expires_s": arguments.expires.as_secs() }), &code)?;
    Ok(0)
}
