//! Undoes single rules from outside, by what it tells an end: the world must notice.

use drover_protocol::session::Session as _;
use drover_protocol::{CloudEvent, ExtensionValue, names};

use crate::scenario::Sabotage;
use crate::world::{Party, World, cluster};

/// The event as the end shall see it.
pub(crate) fn tamper(world: &mut World, to: Party, mut event: CloudEvent) -> CloudEvent {
    match (world.scenario.sabotage, to) {
        (Sabotage::StatusesLookNew, Party::Source(_))
            if event.extension(names::EXT_SEQUENCE_ID).is_some() =>
        {
            world.forged += 1;
            // Steps count, the node in the middle stays.
            let forged = (world.forged << 22) | (1 << 12);
            event.set(names::EXT_SEQUENCE_ID, forged.to_string());
        }
        (Sabotage::SpecsLookNew, Party::Agent(index)) => {
            let held = event
                .resource_id()
                .and_then(|uid| world.agents[index].session.store().get(uid))
                .map(|copy| copy.metadata.generation);
            if let Some(ExtensionValue::Integer(version)) =
                event.extension(names::EXT_RESOURCE_VERSION)
            {
                let version = i64::from(*version).max(held.unwrap_or(0));
                event.set(names::EXT_RESOURCE_VERSION, version as i32);
            }
        }
        (Sabotage::EverybodyOwns, Party::Agent(index)) => {
            let copy = event
                .resource_id()
                .and_then(|uid| world.agents[index].session.store().get(uid));
            let owner = copy.and_then(|c| c.metadata.labels.get(names::LABEL_ORIGINAL_SOURCE));
            if let Some(owner) = owner {
                event.source.clone_from(owner);
            }
        }
        (Sabotage::EverybodyIsMeant, Party::Agent(index)) => {
            event.set(names::EXT_CLUSTER_NAME, cluster(index));
        }
        (Sabotage::ForgottenSequences, Party::Agent(_)) => {
            if let Ok(metadata) = event.text(names::EXT_METADATA) {
                let other = metadata.replace(names::ANNOTATION_SEQUENCE_ID, "example.com/nothing");
                event.set(names::EXT_METADATA, other);
            }
        }
        _ => (),
    }
    event
}
