//! Under which ids owners know what an agent holds, where those are not the uids: peers of sdk-go before 1.3 call everything
//! but works by its name, and order the deletion of every other id.

use std::collections::BTreeMap;

use super::store::Store;
use crate::cloudevent::CloudEvent;
use crate::codec::Resource;

/// Ids by uid.
#[derive(Debug, Default)]
pub(super) struct Aliases(BTreeMap<String, String>);

impl Aliases {
    /// Hears under which id an object came. One that came without anything but that id gets its uid.
    pub(super) fn note<R: Resource>(
        &mut self,
        event: &CloudEvent,
        object: &mut R,
        store: &Store<R>,
    ) {
        let Some(id) = event.resource_id().filter(|id| !id.is_empty()) else {
            return;
        };
        let uid = &object.meta().uid;
        if event.payload().is_empty() {
            let known = self.0.iter().find(|(_, alias)| *alias == id);
            if let Some((uid, _)) = known.filter(|_| store.get(id).is_none()) {
                let uid = uid.clone();
                object.meta_mut().uid = uid;
            }
        } else if uid == id || uid.is_empty() {
            self.0.remove(uid);
        } else {
            if self.0.len() > 2 * store.len() {
                self.0.retain(|uid, _| store.get(uid).is_some());
            }
            self.0.insert(uid.clone(), id.to_owned());
        }
    }

    /// The id of an object for its owner.
    pub(super) fn id<'a>(&'a self, uid: &'a str) -> &'a str {
        self.0.get(uid).map_or(uid, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::super::{AgentConfig, AgentSession, Input, Session as _};
    use crate::cloudevent::CloudEvent;
    use crate::eventtype::{Action, DataType, SubResource};
    use crate::object::ObjectCodec;
    use crate::resync::Versions;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn event(action: Action, id: &str) -> CloudEvent {
        let kind = DataType::MANAGED_CLUSTERS.event(SubResource::Spec, action);
        CloudEvent::new("e", "kube", kind, NOW)
            .with("clustername", "c1")
            .with("resourceid", id)
            .with("resourceversion", "7")
    }

    fn asked(session: &mut AgentSession<ObjectCodec>) -> Vec<String> {
        session.handle(NOW, Input::Down, &mut Vec::new());
        session.handle(NOW, Input::Up, &mut Vec::new());
        let sent = session.poll_transmit(NOW, &mut Vec::new());
        let known = Versions::from_event(&sent.expect("it asks").event);
        known.expect("it is a list").0.into_keys().collect()
    }

    #[test]
    fn an_owner_is_asked_about_its_objects_by_its_own_ids() {
        for (id, gone) in [("c1", "c1"), ("u", "u")] {
            let config = AgentConfig {
                agent: "c1-agent".to_owned(),
                cluster: "c1".to_owned(),
                resync: true,
                seed: 1,
            };
            let codec = ObjectCodec::of(&DataType::MANAGED_CLUSTERS).expect("it is known");
            let mut session = AgentSession::new(codec, config);
            let cluster = json!({"metadata": {"name": "c1", "uid": "u", "resourceVersion": "7"}});
            let update = event(Action::Update, id).with_json(cluster.to_string());
            session.handle(NOW, Input::Wire(update), &mut Vec::new());
            assert_eq!(asked(&mut session), [id]);
            let delete = event(Action::Delete, gone).with("deletiontimestamp", NOW);
            session.handle(NOW, Input::Wire(delete), &mut Vec::new());
            assert!(session.store().is_empty(), "{id} is gone");
        }
    }
}
