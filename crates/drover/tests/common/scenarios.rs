//! What a fleet does, whatever its APIs are.

#[path = "scenarios/clusters.rs"]
mod clusters;
#[path = "scenarios/executors.rs"]
mod executors;
#[path = "scenarios/options.rs"]
mod options;
#[path = "scenarios/placements.rs"]
mod placements;
#[path = "scenarios/reports.rs"]
mod reports;
#[path = "scenarios/rollouts.rs"]
mod rollouts;
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
        // It waits longest.
        executors::an_executor_is_refused_and_then_allowed,
        clusters::a_cluster_that_is_denied_loses_its_rights_and_one_that_leaves_all,
        clusters::a_cluster_is_let_in_by_its_name,
        options::deletion_options_say_what_stays,
        options::feedback_follows_paths,
        options::update_strategies_say_who_writes,
        placements::a_placement_picks_and_picks_again,
        placements::sets_and_bindings_say_who_may_be_chosen,
        rollouts::a_set_of_works_reaches_cluster_after_cluster,
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
