//! Reading valid, invalid, mutated and truncated plan files.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::seating::plan::{Plan, validate_pretix::SEATS_MAX};

fn small() -> Value {
    let seat = |guid: &str, x: i32, category: &str| {
        json!({
            "seat_guid": guid, "seat_number": guid, "category": category,
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

/// A plan with a second row like the first, whose seats have names and spots of their own.
fn two_rows() -> Value {
    let mut plan = small();
    let mut row = plan["zones"][0]["rows"][0].clone();
    row["row_number"] = json!("B");
    row["position"]["y"] = json!(20);
    for (s, guid) in ["B-1", "B-2"].iter().enumerate() {
        row["seats"][s]["seat_guid"] = json!(guid);
    }
    plan["zones"][0]["rows"].as_array_mut().unwrap().push(row);
    plan
}

fn errors_in_two_rows(at: &str, value: Value) -> Vec<String> {
    let mut plan = two_rows();
    *plan.pointer_mut(at).unwrap() = value;
    errors_of(&plan)
}

#[test]
fn places_that_a_ticket_cannot_tell_apart_are_refused() {
    assert!(Plan::parse(&two_rows().to_string()).is_ok());
    let row = "/zones/0/rows/1/row_number";
    assert_eq!(
        errors_in_two_rows(row, json!("A")),
        [
            "zones[0].rows[1].row_number: row \"A\" is there twice in section \"Stalls\", first at \
          zones[0].rows[0]"
        ]
    );
    let cyrillic = errors_in_two_rows(row, json!("\u{410}"));
    assert!(cyrillic[0].contains("looks like \"A\""), "{cyrillic:?}");
    assert_eq!(
        errors_in_two_rows("/zones/0/rows/1/seats/1/seat_number", json!("A-1")),
        [
            "zones[0].rows[1].seats[1].seat_number: number \"A-1\" is there twice in this row, first at \
          zones[0].rows[1].seats[0]"
        ]
    );
    assert_eq!(
        errors_in_two_rows("/zones/0/rows/1/position/y", json!(0)),
        [
            "zones[0].rows[1].seats[0].position: is the spot of another seat, zones[0].rows[0].seats[0]",
            "zones[0].rows[1].seats[1].position: is the spot of another seat, zones[0].rows[0].seats[1]",
        ]
    );
    let full_width = errors_in_two_rows("/zones/0/rows/1/seats/0/seat_guid", json!("\u{ff21}-1"));
    assert!(
        full_width[0].contains("looks like \"A-1\" at zones[0].rows[0]"),
        "{full_width:?}"
    );
    let category = errors_with("/categories/1/name", json!(" R"));
    assert!(
        category.iter().any(|error| error.contains("looks like \"R\"")),
        "{category:?}"
    );
}

#[test]
fn a_row_of_the_same_label_in_another_section_is_valid() {
    let mut plan = two_rows();
    let mut zone = plan["zones"][0].clone();
    zone["rows"].as_array_mut().unwrap().remove(0);
    plan["zones"][0]["rows"].as_array_mut().unwrap().remove(1);
    zone["name"] = json!("Balcony");
    zone["rows"][0]["row_number"] = json!("A");
    plan["zones"].as_array_mut().unwrap().push(zone);
    assert!(Plan::parse(&plan.to_string()).is_ok());
}

#[test]
fn invisible_characters_are_refused_in_every_text() {
    for at in [
        "/name",
        "/categories/0/name",
        "/zones/0/name",
        "/zones/0/rows/0/row_number",
        "/zones/0/rows/0/seats/0/seat_number",
        "/zones/0/rows/0/seats/0/seat_guid",
        "/zones/0/areas/1/text",
    ] {
        let errors = errors_with(at, json!("R\u{200b}"));
        assert!(
            errors[0].contains("an invisible character (U+200B)"),
            "{at}: {errors:?}"
        );
    }
}

#[test]
fn a_key_that_is_there_twice_is_refused_with_its_path() {
    let twice = small()
        .to_string()
        .replace(r#""seat_guid":"A-2""#, r#""seat_guid":"A-1","seat_guid":"A-2""#);
    assert_eq!(
        Plan::parse(&twice).unwrap_err().to_string(),
        "zones[0].rows[0].seats[1].seat_guid: is there twice in one object"
    );
}

#[test]
fn errors_of_one_kind_are_summed_up() {
    let mut plan = small();
    let seats: Vec<Value> = (0..300)
        .map(|i| {
            json!({
                "seat_guid": format!("A-{i}"), "seat_number": i.to_string(), "category": format!("Gold {i}"),
                "position": {"x": 10 * i, "y": 0},
            })
        })
        .collect();
    plan["zones"][0]["rows"][0]["seats"] = json!(seats);
    plan["zones"][0]["rows"][0]["row_number"] = json!(7);
    let text = Plan::parse(&plan.to_string()).unwrap_err().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 7, "{text}");
    assert_eq!(lines[0], "zones[0].rows[0].row_number: must be a text");
    assert_eq!(
        lines[6],
        "zones[].rows[].seats[].category: ... is not one of the plan's categories (300 times in all, 5 shown)"
    );
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
