//! The receiver of the shop's events, and the token of the feed.

use super::*;

const URL: &str = "url = \"https://shop.example/events\"\n";
const SECRET: &str = "secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n";

#[test]
fn a_receiver_needs_an_allowed_url_and_a_secret() {
    let both = format!("[shop.events]\n{URL}{SECRET}");
    let file = File::of("events", &both);
    assert!(load(Some(&file.path), env(&[])).is_ok());
    for (key, section) in [
        ("url", format!("url = \"http://shop.example/events\"\n{SECRET}")),
        (
            "url",
            format!("url = \"https://user:hush@shop.example/\"\n{SECRET}"),
        ),
        ("url", SECRET.to_owned()),
        ("secret", URL.to_owned()),
        ("secret", format!("{URL}secret = \"hush\"\n")),
        ("timeout_ms", "timeout_ms = 0\n".to_owned()),
        ("timeout_ms", "timeout_ms = 30001\n".to_owned()),
        ("requests_max", "requests_max = 0\n".to_owned()),
        ("requests_max", "requests_max = 65\n".to_owned()),
        ("feed_token", "feed_token = \"a token\"\n".to_owned()),
    ] {
        let problems = refusal("events", &format!("[shop.events]\n{section}"), &[]);
        let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, [format!("shop.events.{key}")], "{section}");
        assert!(
            problems[0].message.len() > 15 && !problems[0].message.contains("hush"),
            "{section}"
        );
    }
}
