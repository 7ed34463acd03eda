//! The stages that a target needs and no others, at once where they do not wait for each other.
//!
//! Each is run by a thread: those that a stage names are begun ahead, and the first step that uses one waits for it or
//! runs it itself. A stage knows earlier ones only, so that nobody waits in a circle.

use crate::{
    Contexts, Error, Output, Request, Result, Worker,
    args::Args,
    classic::{Progress, run_stage, variables},
    stage::{Builder, Inputs, Others, Place},
    steps::Steps,
};
use std::{
    num::NonZero,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Scope},
};
use wharf_dockerfile::{Dockerfile, Instruction, Lexer};
use wharf_spec::ImageId;

/// A build under way.
pub(crate) struct Graph<'g, W> {
    worker: &'g W,
    request: &'g Request,
    contexts: &'g Contexts,
    file: &'g Dockerfile,
    /// What is known before the first stage.
    args: &'g Args,
    names: Vec<Option<String>>,
    stages: Mutex<Vec<State>>,
    changed: Condvar,
    /// The error that ended the build; others come of it.
    failed: Mutex<Option<Error>>,
    threads: AtomicUsize,
    steps: Steps,
}

#[derive(Clone, Copy)]
enum State {
    Waiting,
    Running,
    Done(Option<ImageId>),
    Failed,
}

/// The other stages, as one of them sees them.
struct Seen<'s, 'g, W> {
    graph: &'g Graph<'g, W>,
    scope: &'s Scope<'s, 'g>,
    out: &'g dyn Output,
}

/// Builds the last stage; gives its image.
///
/// # Errors
/// The first one of all stages.
pub(crate) fn build<W: Worker + Sync>(
    worker: &W,
    request: &Request,
    contexts: &Contexts,
    (file, args): (&Dockerfile, &Args),
    out: &dyn Output,
) -> Result<Option<ImageId>> {
    let names: Vec<Option<String>> = file.stages.iter().map(|stage| stage.name.clone()).collect();
    let graph = Graph {
        worker,
        request,
        contexts,
        file,
        args,
        stages: Mutex::new(vec![State::Waiting; names.len()]),
        names,
        changed: Condvar::new(),
        failed: Mutex::default(),
        threads: AtomicUsize::new(1),
        steps: Steps::default(),
    };
    let Some(last) = file.stages.len().checked_sub(1) else { return Ok(None) };
    let built = thread::scope(|scope| Seen { graph: &graph, scope, out }.image(last));
    let failed = graph.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
    failed.map_or(built, Err)
}

impl<W: Worker + Sync> Others for Seen<'_, '_, W> {
    /// Runs it, or waits until another thread has.
    fn image(&self, stage: usize) -> Result<Option<ImageId>> {
        let mut stages = self.graph.stages();
        loop {
            match stages[stage] {
                State::Waiting => break,
                State::Done(image) => return Ok(image),
                State::Failed => return Err(Error::Cancelled),
                State::Running => {
                    stages = self.graph.changed.wait(stages).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        stages[stage] = State::Running;
        drop(stages);
        // A panic counts as a failure too: others would wait for ever.
        let guard = Ends { graph: self.graph, stage };
        let image = self.run(stage)?;
        guard.done(image);
        Ok(image)
    }

    fn check(&self) -> Result<()> {
        let failed = self.graph.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_some() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

impl<W: Worker + Sync> Seen<'_, '_, W> {
    fn run(&self, number: usize) -> Result<Option<ImageId>> {
        let graph = self.graph;
        graph.needed_by(number).into_iter().for_each(|needed| self.begin(needed));
        let stage = &graph.file.stages[number];
        let label = graph.names[number].clone().unwrap_or_else(|| format!("stage-{number}"));
        let mut out = self.out.of_stage(&label);
        let Graph { worker, request, contexts, names, steps, .. } = graph;
        let place = Place { names, number, others: self, steps, escape: graph.file.escape };
        let mut builder = Builder::new(Inputs { worker: *worker, request, contexts }, place, &mut *out);
        let mut progress = Progress::new(1 + stage.steps.len());
        let ran = run_stage(&mut builder, &mut progress, graph.args, stage);
        drop(builder);
        match ran {
            Ok((image, _)) => Ok(image),
            Err(error) => {
                let mut failed = graph.failed.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.is_none() {
                    // Nobody to tell where nobody listens.
                    let _ = out.text(" ---> Failed\n");
                    *failed = Some(error);
                }
                graph.worker.abandon();
                Err(Error::Cancelled)
            }
        }
    }

    /// Has it run by a thread of its own, if there are not too many.
    fn begin(&self, stage: usize) {
        let (graph, scope, out) = (self.graph, self.scope, self.out);
        let most = 2 * thread::available_parallelism().map_or(2, NonZero::get).max(2);
        if !matches!(graph.stages()[stage], State::Waiting)
            || graph.threads.fetch_add(1, Ordering::Relaxed) >= most
        {
            return;
        }
        scope.spawn(move || {
            // Whoever needs it hears of its error.
            let _ = Seen { graph, scope, out }.image(stage);
            graph.threads.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

impl<W> Graph<'_, W> {
    fn stages(&self) -> MutexGuard<'_, Vec<State>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Earlier stages that a stage names. That is a hint to begin early; what its steps use counts.
    fn needed_by(&self, number: usize) -> Vec<usize> {
        let stage = &self.file.stages[number];
        let known = variables(self.args.in_from());
        let base = Lexer::new(self.file.escape, &known).word(&stage.base);
        let mut names: Vec<String> = base.into_iter().collect();
        for step in &stage.steps {
            match &step.instruction {
                Instruction::Copy(copy) => names.push(copy.from.clone()),
                Instruction::Run(run) => names.extend(run.mounts.iter().flat_map(|mount| {
                    mount.split(',').filter_map(|field| field.trim().strip_prefix("from=")).map(str::to_owned)
                })),
                _ => {}
            }
        }
        names.retain(|name| self.contexts.named(name).is_none());
        let earlier = &self.names[..number];
        let find = |name: String| {
            let named = earlier.iter().position(|stage| stage.as_deref() == Some(&*name.to_lowercase()));
            named.or_else(|| name.parse().ok().filter(|stage| *stage < number))
        };
        names.into_iter().filter_map(find).collect()
    }
}

/// Says how a stage ended.
struct Ends<'g, W> {
    graph: &'g Graph<'g, W>,
    stage: usize,
}

impl<W> Ends<'_, W> {
    fn done(self, image: Option<ImageId>) {
        self.graph.stages()[self.stage] = State::Done(image);
    }
}

impl<W> Drop for Ends<'_, W> {
    fn drop(&mut self) {
        let mut stages = self.graph.stages();
        if matches!(stages[self.stage], State::Running) {
            stages[self.stage] = State::Failed;
        }
        drop(stages);
        self.graph.changed.notify_all();
    }
}
