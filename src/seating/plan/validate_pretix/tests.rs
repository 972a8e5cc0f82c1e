//! Reading valid, invalid, mutated and truncated plan files.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::seating::plan::{Plan, validate_pretix::SEATS_MAX};

fn small() -> Value {
    let seat = |guid: &str, x: i32, category: &str| {
        json!({
            "seat_guid": guid, "seat_number": "1", "category": category,
            "uuid": "u", "position": {"x": x, "y": 0},
        })
    };
    json!({
        "name": "Small", "size": {"width": 100, "height": 50}, "version": 3,
        "categories": [{"name": "R", "color": "#f00"}, {"name": "S", "color": "#00f"}],
        "zones": [{
            "name": "Stalls", "zone_id": "ground", "uuid": "z", "position": {"x": 10, "y": 5},
            "rows": [{
                "row_number": "A", "position": {"x": 0, "y": 0},
                "seats": [seat("A-1", 0, "R"), seat("A-2", 10, "S")],
            }],
            "areas": [
                {
                    "shape": "ellipse", "position": {"x": 0, "y": 0}, "rotation": 0, "color": "#ccc",
                    "ellipse": {"radius": {"x": 5, "y": 2}},
                },
                {"width": 30, "height": 10, "position": {"x": 1, "y": 1}, "text": "STAGE"},
            ],
        }],
    })
}

fn errors_of(plan: &Value) -> Vec<String> {
    let errors = Plan::parse(&plan.to_string()).expect_err("the plan is invalid");
    errors
        .iter()
        .map(|error| format!("{}: {}", error.path, error.message))
        .collect()
}

fn errors_with(at: &str, value: Value) -> Vec<String> {
    let mut plan = small();
    *plan.pointer_mut(at).unwrap() = value;
    errors_of(&plan)
}

#[test]
fn unknown_keys_are_read_and_not_served() {
    let plan = Plan::parse(&small().to_string()).unwrap();
    let seat = plan.index_of("A-2").unwrap();
    assert_eq!(
        (plan.seat_count(), plan.zone_of(seat), plan.section_of(seat)),
        (2, "S", "Stalls")
    );
    assert_eq!((plan.label(seat).row, plan.position_of(seat)), ("A", (20.0, 5.0)));
    let served = served(&plan);
    assert!(
        served.contains(r#""rectangle":{"width":30,"height":10}"#) && served.contains(r#""text":"STAGE""#),
        "{served}"
    );
    assert!(
        !served.contains("uuid") && !served.contains("version"),
        "{served}"
    );
    let again = Plan::parse(&served).unwrap();
    assert_eq!(again.hash(), plan.hash(), "what is served is what is hashed");
    assert_eq!(plan.hash().len(), 16);
}

fn served(plan: &Plan) -> String {
    std::io::read_to_string(flate2::read::GzDecoder::new(&plan.json_gzip()[..])).unwrap()
}

#[test]
fn all_errors_are_reported_at_once_with_their_paths() {
    let mut plan = small();
    plan["zones"][0]["rows"][0]["seats"][1]["seat_guid"] = json!("A-1");
    plan["zones"][0]["rows"][0]["seats"][0]["category"] = json!("Gold");
    plan["zones"][0]["position"]["x"] = json!(1e7);
    plan["zones"][0]["rows"][0]
        .as_object_mut()
        .unwrap()
        .remove("row_number");
    plan["zones"][0]["areas"][0]["color"] = json!("red;background:url(x)");
    assert_eq!(
        errors_of(&plan),
        [
            "zones[0].position.x: 10000000 is not within 1000000 pixels",
            "zones[0].rows[0].row_number: is missing",
            "zones[0].rows[0].seats[0].category: \"Gold\" is not one of the plan's categories",
            "zones[0].rows[0].seats[1].seat_guid: \"A-1\" is used twice, first at zones[0].rows[0].seats[0]",
            "zones[0].areas[0].color: \"red;background:url(x)\" is not a color",
        ]
    );
}

#[test]
fn each_rule_has_its_own_message() {
    let guid = "/zones/0/rows/0/seats/0/seat_guid";
    assert!(errors_with(guid, json!(""))[0].contains("must not be empty"));
    assert!(errors_with(guid, json!("A\u{7}1"))[0].contains("control character"));
    assert!(errors_with(guid, json!("x".repeat(65)))[0].contains("longer than 64"));
    assert!(errors_with(guid, json!(7))[0].contains("must be a text"));
    assert!(errors_with("/zones/0/rows/0/seats/0/position/x", json!("7"))[0].contains("must be a number"));
    assert!(errors_with("/zones/0/rows/0/seats", json!([]))[0].contains("no seat"));
    assert!(errors_with("/zones", json!({}))[0].contains("must be a list"));
    assert!(errors_with("/categories/1/name", json!("R"))[0].contains("used twice"));
    assert!(errors_with("/zones/0/areas/0/shape", json!("star"))[0].contains("is not rectangle"));
    assert_eq!(errors_of(&json!([])), ["the plan: must be an object"]);
    let many: Vec<Value> = (0..=SEATS_MAX)
        .map(|i| {
            let position = json!({"x": 0, "y": 0});
            json!({"seat_guid": i.to_string(), "seat_number": "", "category": "R", "position": position})
        })
        .collect();
    assert!(errors_with("/zones/0/rows/0/seats", json!(many))[0].contains("more than 100000 seats"));
}

#[test]
fn syntax_errors_have_line_and_column() {
    for (text, location, word) in [
        ("{\n  \"name\": NaN}", "line 2", "must be finite"),
        ("{\"x\": -Infinity}", "line 1", "must be finite"),
        ("{\"x\": 1e999}", "line 1", "too large"),
        ("{\"name\": \"a\",\n\n}", "line 3", "trailing comma"),
        ("", "line 1", "EOF"),
    ] {
        let errors = Plan::parse(text).unwrap_err().to_string();
        assert!(
            errors.starts_with(location) && errors.contains(word),
            "{text:?}: {errors}"
        );
    }
}

/// JSON pointers to every value of the document.
fn pointers(value: &Value, at: String, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| pointers(value, format!("{at}/{key}"), into)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(i, value)| pointers(value, format!("{at}/{i}"), into)),
        _ => {}
    }
    into.push(at);
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,80}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{"x": 1}])),
    ]
}

proptest! {
    #[test]
    fn mutated_plans_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any_value()), 1..4),
    ) {
        let mut plan = small();
        for (which, value) in changes {
            let mut all = Vec::new();
            pointers(&plan, String::new(), &mut all);
            *plan.pointer_mut(&all[which.index(all.len())]).unwrap() = value;
        }
        if let Ok(read) = Plan::parse(&plan.to_string()) {
            prop_assert!(read.seat_count() > 0);
            prop_assert!(Plan::parse(&served(&read)).is_ok(), "what is served can be read");
        }
    }

    #[test]
    fn truncated_plans_never_panic(at in any::<prop::sample::Index>(), text in ".{0,3}") {
        let json = small().to_string();
        let at = at.index(json.len());
        let _ = Plan::parse(&format!("{}{text}{}", &json[..at], &json[at..]));
        prop_assert!(Plan::parse(&json[..at]).is_err());
    }
}
