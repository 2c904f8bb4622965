//! What a fleet does, whatever its APIs are.

#[path = "scenarios/reports.rs"]
mod reports;
#[path = "scenarios/works.rs"]
mod works;

use super::Scenario;

/// Names and functions.
macro_rules! scenarios {
    ($($module:ident::$name:ident),* $(,)?) => {
        vec![$((
            concat!(stringify!($module), "::", stringify!($name)),
            (|ground| Box::pin($module::$name(ground))) as Scenario,
        )),*]
    };
}

pub(super) fn all() -> Vec<(&'static str, Scenario)> {
    scenarios![
        reports::health_names_what_is_wrong,
        reports::a_work_that_is_done_goes_in_time,
        works::a_cluster_follows_its_work,
        works::a_work_that_cannot_be_applied_says_why_and_stops_no_other,
        works::a_change_between_two_works_loses_nothing,
        works::a_deployment_reports_what_is_ready,
        works::a_work_that_is_deleted_at_once_leaves_nothing,
        works::commands_apply_and_show_a_work,
    ]
}
