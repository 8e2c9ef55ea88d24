//! What changes the settings of the running process: `sys.config`, and SIGHUP, which has the file read again.
//!
//! Both are all or nothing: every value is checked before the first one is in force. What a call has set lies above the
//! file, and stays there when the file is read again. A setting that may not be changed keeps the value of the start; what
//! the file has for it now is told, because a restart would use it.

use std::sync::Arc;

use eventodb_protocol::reply::{Configuration, Layer, Setting};
use eventodb_protocol::request::ChangeConfiguration;
use eventodb_server::{Live, Steering};
use parking_lot::Mutex;

use super::config::changeable;
use super::logging::LevelSwitch;
use super::settings::{CHANGEABLE, Examined, Layered, Layers, Problems, hash};

/// The settings of the process.
#[derive(Debug)]
pub(super) struct Steer {
    level: LevelSwitch,
    live: Arc<Live>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    layers: Layers,
    /// What is in force.
    running: Vec<Setting>,
}

/// What reading the file again has done.
struct Reloaded {
    /// The settings that have changed, and their values.
    changed: Vec<String>,
    /// The settings that would be others after a restart.
    after_restart: Vec<String>,
    warnings: Vec<String>,
}

impl Steer {
    /// The settings of a process that has started with `running`.
    pub(super) fn new(layers: Layers, running: Vec<Setting>, live: Arc<Live>, level: LevelSwitch) -> Self {
        Self { level, live, state: Mutex::new(State { layers, running }) }
    }

    /// Reads the file again, and puts in force what may be changed.
    ///
    /// # Errors
    /// What is wrong with the file; nothing has changed then.
    fn reload(&self) -> Result<Reloaded, Problems> {
        let state = &mut *self.state.lock();
        // A restart with this file must work, too.
        let Examined { layers, layered: found, .. } = state.layers.examined_again()?;
        let warnings = found.warnings.clone();
        let changed = self.put_in_force(state, layers, &found);
        let after_restart = state.running.iter().filter(|setting| setting.after_restart.is_some());
        let after_restart = after_restart.map(|setting| setting.name.clone()).collect();
        Ok(Reloaded { changed, after_restart, warnings })
    }

    /// Reads the file again, and logs what came of it.
    pub(super) fn reload_and_tell(&self) {
        match self.reload() {
            Ok(Reloaded { changed, after_restart, warnings }) => {
                let (changed, after_restart, config) = (changed.join(","), after_restart.join(","), self.hash());
                tracing::info!(changed, after_restart, config, "the configuration was read again");
                warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                if !changed.is_empty() {
                    eventodb_server::act_by_signal("SIGHUP", &changed);
                }
            }
            Err(Problems(problems)) => {
                let problems = problems.join("; ");
                tracing::error!(problems, "the configuration cannot be read again: nothing has changed");
            }
        }
    }

    /// A text that changes with each value that is in force.
    pub(super) fn hash(&self) -> String {
        hash(&self.state.lock().running)
    }

    /// Puts in force what may be changed, and tells what has changed.
    fn put_in_force(&self, state: &mut State, layers: Layers, found: &Layered) -> Vec<String> {
        let beneath = layers.without_calls().join().map(|layered| layered.settings).unwrap_or_default();
        let mut changed = Vec::new();
        for (running, new) in state.running.iter_mut().zip(&found.settings) {
            if !running.changeable {
                // What a machine decides if it is left out is not in the file's layer.
                let differs = new.value != running.value && (new.value.is_some() || running.from != new.from);
                running.after_restart = differs.then(|| layer(new));
                continue;
            }
            if running.value != new.value {
                changed.push(format!("{}={}", new.name, new.value.as_deref().unwrap_or("none")));
            }
            *running = new.clone();
            let below = beneath.iter().find(|below| below.name == new.name && below.from != new.from);
            running.beneath = below.map(layer);
        }
        self.live.set(changeable(&found.args));
        self.level.set(found.args.log_level);
        state.layers = layers;
        changed
    }
}

impl Steering for Steer {
    fn changeable(&self) -> &'static [&'static str] {
        CHANGEABLE
    }

    fn show(&self) -> Configuration {
        let state = self.state.lock();
        Configuration { hash: hash(&state.running), settings: state.running.clone() }
    }

    fn change(&self, change: &ChangeConfiguration) -> Result<String, String> {
        let state = &mut *self.state.lock();
        let layers = state.layers.called(&change.set, &change.reset);
        let found = layers.join().map_err(|Problems(problems)| problems.join("; "))?;
        let changed = self.put_in_force(state, layers, &found);
        Ok(if changed.is_empty() { "nothing".to_owned() } else { changed.join(",") })
    }
}

fn layer(setting: &Setting) -> Layer {
    Layer { value: setting.value.clone(), from: setting.from.clone() }
}
