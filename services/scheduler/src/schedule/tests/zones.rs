//! The table of rule TM1: what a line means where a zone's clock jumps or its rules changed, as instants.

use super::*;

/// Zone, line, start, and the fires after it.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

fn hold(rows: &[Row]) {
    for (zone, line, from, expected) in rows {
        let found = fires(line, zone, from, expected.len());
        assert_eq!(found, *expected, "`{line}` in {zone} after {from}");
    }
}

#[test]
fn berlin_and_new_york_jump_by_an_hour() {
    let new_york = "America/New_York";
    hold(&[
        (
            BERLIN,
            "30 2 * * *",
            SPRING,
            &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        ),
        (
            BERLIN,
            "30 2 * * *",
            AUTUMN,
            &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        ),
        (
            BERLIN,
            "30 * * * *",
            "2026-10-24T23:59:00Z",
            &[
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-25T02:30:00Z",
            ],
        ),
        (
            new_york,
            "30 2 * * *",
            "2026-03-07T12:00:00Z",
            &["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"],
        ),
        (
            new_york,
            "30 1 * * *",
            "2026-10-31T12:00:00Z",
            &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"],
        ),
        (
            new_york,
            "0 * * * *",
            "2026-11-01T04:30:00Z",
            &[
                "2026-11-01T05:00:00Z",
                "2026-11-01T06:00:00Z",
                "2026-11-01T07:00:00Z",
            ],
        ),
    ]);
}

#[test]
fn lord_howe_jumps_by_half_an_hour_and_kolkata_never() {
    let lord_howe = "Australia/Lord_Howe";
    hold(&[
        (
            lord_howe,
            "45 1 * * *",
            "2026-04-03T20:00:00Z",
            &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
        ),
        (
            lord_howe,
            "15 2 * * *",
            "2026-10-03T00:00:00Z",
            &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
        ),
        (
            lord_howe,
            "45 * * * *",
            "2026-04-04T14:00:00Z",
            &[
                "2026-04-04T14:45:00Z",
                "2026-04-04T15:15:00Z",
                "2026-04-04T16:15:00Z",
            ],
        ),
        (
            "Asia/Kolkata",
            "30 2 * * *",
            SPRING,
            &["2026-03-28T21:00:00Z", "2026-03-29T21:00:00Z"],
        ),
    ]);
}

/// Kazakhstan went back for good in the night after 29 February 2024; Samoa left out 30 December 2011;
/// Turkey stayed on summer time in 2016; Brazil gave it up in 2019.
#[test]
fn zones_that_changed_their_rules_are_read_as_they_were_then() {
    let sao_paulo = "America/Sao_Paulo";
    hold(&[
        (
            "Asia/Almaty",
            "30 23 * * *",
            "2024-02-28T20:00:00Z",
            &["2024-02-29T17:30:00Z", "2024-03-01T18:30:00Z"],
        ),
        (
            "Asia/Almaty",
            "30 * * * *",
            "2024-02-29T17:00:00Z",
            &[
                "2024-02-29T17:30:00Z",
                "2024-02-29T18:30:00Z",
                "2024-02-29T19:30:00Z",
            ],
        ),
        (
            "Pacific/Apia",
            "0 12 * * *",
            "2011-12-29T23:00:00Z",
            &["2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"],
        ),
        (
            "Europe/Istanbul",
            "0 3 * * *",
            "2016-10-29T12:00:00Z",
            &["2016-10-30T00:00:00Z", "2016-10-31T00:00:00Z"],
        ),
        (
            sao_paulo,
            "0 0 * * *",
            "2018-11-03T12:00:00Z",
            &["2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"],
        ),
        (
            sao_paulo,
            "0 0 * * *",
            "2019-11-02T12:00:00Z",
            &["2019-11-03T03:00:00Z", "2019-11-04T03:00:00Z"],
        ),
    ]);
}

#[test]
fn days_that_few_months_have_are_those_of_the_zone() {
    hold(&[
        (
            BERLIN,
            "0 3 31 * *",
            "2026-01-01T00:00:00Z",
            &[
                "2026-01-31T02:00:00Z",
                "2026-03-31T01:00:00Z",
                "2026-05-31T01:00:00Z",
            ],
        ),
        (
            "Asia/Kolkata",
            "0 0 29 2 *",
            "2026-01-01T00:00:00Z",
            &["2028-02-28T18:30:00Z", "2032-02-28T18:30:00Z"],
        ),
    ]);
}

#[test]
fn a_line_that_counts_hours_is_found_beyond_many_jumps_and_beside_one() {
    hold(&[
        (
            BERLIN,
            "0 * 29 2 *",
            "2020-03-01T00:00:00Z",
            &["2024-02-28T23:00:00Z", "2024-02-29T00:00:00Z"],
        ),
        (
            BERLIN,
            "30 */2 29 3 *",
            "2026-01-01T00:00:00Z",
            &["2026-03-28T23:30:00Z", "2026-03-29T02:30:00Z"],
        ),
        (
            BERLIN,
            "30 * 25 10 *",
            "2026-10-25T00:10:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"],
        ),
    ]);
}
