//! A whole build, in the order and the words of Docker's classic builder (source: moby
//! `daemon/builder/dockerfile/builder.go`).

use crate::{
    Contexts, Error, Output, Result, Worker,
    args::Args,
    graph,
    stage::{Builder, Inputs, Others, Place, Stage},
    steps::Steps,
};
use std::collections::BTreeMap;
use wharf_dockerfile::{Dockerfile, Instruction, KeyValue, Lexer, Step, Variables};
use wharf_spec::{ImageId, Platform};

/// Which stages are built, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stages {
    /// All up to the target, one after the other, as Docker's classic builder does.
    #[default]
    All,
    /// Those that the target needs, at once where they can be.
    Needed,
}

/// What a client asks for besides the file.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `--build-arg`.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--label`: set at the end.
    pub labels: BTreeMap<String, String>,
    /// `--target`, or empty for the last stage.
    pub target: String,
    /// No step is taken from earlier builds.
    pub no_cache: bool,
    /// Nor are those of these stages.
    pub no_cache_filter: Vec<String>,
    /// Which stages.
    pub stages: Stages,
    /// Why a step is not taken from earlier builds is told.
    pub explain: bool,
    /// Base images are looked for anew.
    pub pull: bool,
    /// Containers go when their step succeeded.
    pub remove: bool,
    /// They go in any case.
    pub force_remove: bool,
    /// For which machines.
    pub platform: Option<Platform>,
    /// Commands may use the host's network.
    pub host_network: bool,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970: the time of images, and no file of a step is later. Equal inputs come to
    /// equal images then.
    pub epoch: Option<i64>,
}

/// Builds an image.
///
/// # Errors
/// In Docker's words; images of steps that succeeded stay, as a cache.
pub fn build<W: Worker + Sync>(
    worker: &W,
    request: &Request,
    mut file: Dockerfile,
    contexts: &Contexts,
    out: &mut dyn Output,
) -> Result<ImageId> {
    if !request.target.is_empty() {
        let at = file
            .stage(&request.target)
            .ok_or_else(|| Error::Invalid(format!("target stage {:?} could not be found", request.target)))?;
        file.stages.truncate(at + 1);
    }
    add_labels(&mut file, &request.labels);
    for warning in &file.warnings {
        out.error_text(&format!("[WARNING]: {warning}\n"))?;
    }
    if !file.warnings.is_empty() {
        out.error_text("[WARNING]: Empty continuation lines will become errors in a future release.\n")?;
    }
    let mut args = Args::new(request.build_args.clone());
    preset_platforms(&mut args, request.platform.as_ref());
    let image = match request.stages {
        Stages::Needed if file.stages.len() > 1 => {
            for step in &file.arguments {
                declare_globals(&mut args, step, file.escape)?;
            }
            let image = graph::build(worker, request, contexts, (&file, &args), out)?;
            mark_used(&mut args, &file);
            image
        }
        Stages::Needed | Stages::All => {
            one_after_the_other(worker, request, contexts, (&file, &mut args), out)?
        }
    };
    let unused = args.unused();
    if !unused.is_empty() {
        let unused = unused.join(" ");
        out.text(&format!("[Warning] One or more build-args [{unused}] were not consumed\n"))?;
    }
    image.ok_or_else(|| Error::Refused("No image was generated. Is your Dockerfile empty?".into()))
}

fn one_after_the_other<W: Worker>(
    worker: &W,
    request: &Request,
    contexts: &Contexts,
    (file, args): (&Dockerfile, &mut Args),
    out: &mut dyn Output,
) -> Result<Option<ImageId>> {
    let steps: usize = file.stages.iter().map(|stage| 1 + stage.steps.len()).sum();
    let mut progress = Progress::new(file.arguments.len() + steps);
    for step in &file.arguments {
        progress.step(out, &step.text)?;
        declare_globals(args, step, file.escape)?;
    }
    let names: Vec<Option<String>> = file.stages.iter().map(|stage| stage.name.clone()).collect();
    let (mut done, own) = (Done(Vec::new()), Steps::default());
    for (number, stage) in file.stages.iter().enumerate() {
        let place = Place { names: &names, number, others: &done, steps: &own, escape: file.escape };
        let mut builder = Builder::new(Inputs { worker, request, contexts }, place, &mut *out);
        let (image, used) = run_stage(&mut builder, &mut progress, args, stage)?;
        drop(builder);
        args.merge_used(&used);
        done.0.push(image);
    }
    Ok(done.0.pop().flatten())
}

/// Images of stages that are done.
struct Done(Vec<Option<ImageId>>);

impl Others for Done {
    fn image(&self, stage: usize) -> Result<Option<ImageId>> {
        Ok(self.0[stage])
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Stages that are not built take their arguments too.
fn mark_used(args: &mut Args, file: &Dockerfile) {
    for step in file.stages.iter().flat_map(|stage| &stage.steps) {
        if let Instruction::Arg(arguments) = &step.instruction {
            arguments.iter().for_each(|argument| args.mark_used(&argument.name));
        }
    }
}

/// `Step 3/7 : ...`
pub(crate) struct Progress {
    next: usize,
    total: usize,
}

impl Progress {
    pub(crate) fn new(total: usize) -> Self {
        Self { next: 1, total }
    }

    fn step(&mut self, out: &mut dyn Output, text: &str) -> Result<()> {
        let number = self.next;
        self.next += 1;
        out.text(&format!("Step {number}/{} : {text}\n", self.total))
    }
}

/// Labels of the request are the last stage's last steps; they mean what they say, without quotes or variables (source:
/// moby `buildLabelOptions`).
fn add_labels(file: &mut Dockerfile, labels: &BTreeMap<String, String>) {
    let Some(last) = file.stages.last_mut() else { return };
    let line = last.line;
    for (key, value) in labels {
        let literal = |text: &str| format!("'{}'", text.replace('\'', &format!("'{}''", file.escape)));
        let pair = KeyValue { key: literal(key), value: literal(value) };
        let instruction = Instruction::Change(wharf_dockerfile::Change::Label(vec![pair]));
        last.steps.push(Step { text: format!("LABEL {key}={value}"), line, instruction });
    }
}

/// What BuildKit knows without being told (source: buildkit `dockerfile2llb/platform.go`).
fn preset_platforms(args: &mut Args, target: Option<&Platform>) {
    let host = Platform::host();
    for (prefix, platform) in [("BUILD", &host), ("TARGET", target.unwrap_or(&host))] {
        args.preset(&format!("{prefix}PLATFORM"), &platform.to_string());
        args.preset(&format!("{prefix}OS"), &platform.os);
        args.preset(&format!("{prefix}ARCH"), &platform.architecture);
        args.preset(&format!("{prefix}VARIANT"), &platform.variant);
    }
}

fn declare_globals(
    args: &mut Args,
    step: &Step<Vec<wharf_dockerfile::Argument>>,
    escape: char,
) -> Result<()> {
    for argument in &step.instruction {
        let variables = variables(args.in_stage());
        let lexer = Lexer::new(escape, &variables);
        let default = argument.default.as_deref().map(|value| lexer.word(value)).transpose()?;
        args.declare_global(&wharf_dockerfile::Argument { name: lexer.word(&argument.name)?, default });
    }
    Ok(())
}

pub(crate) fn variables(values: BTreeMap<String, String>) -> Variables {
    Variables::of(&values.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>())
}

/// Gives the stage's image, and the arguments that it declared.
pub(crate) fn run_stage<W: Worker>(
    builder: &mut Builder<'_, W>,
    progress: &mut Progress,
    args: &Args,
    file: &wharf_dockerfile::Stage,
) -> Result<(Option<ImageId>, Args)> {
    builder.check_name(file.name.as_deref())?;
    progress.step(builder.out(), &file.text)?;
    let mut stage: Stage = builder.begin(file, args)?;
    builder.tell_image(&stage)?;
    for step in &file.steps {
        progress.step(builder.out(), &step.text)?;
        builder.step(&mut stage, step.instruction.clone())?;
        builder.tell_image(&stage)?;
    }
    if let Some(image) = &stage.image {
        builder.out().image(image)?;
    }
    Ok((stage.image, stage.args))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_request_mean_what_they_say() {
        for text in ["FROM scratch\n", "# escape=`\nFROM scratch\n"] {
            let mut file = Dockerfile::parse(text).unwrap();
            let given = BTreeMap::from([("it's".to_owned(), "\"$PATH\" \\ ` '".to_owned())]);
            add_labels(&mut file, &given);
            let known = variables(BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]));
            let step = file.stages[0].steps.pop().unwrap().instruction;
            let expanded = step.expand(&Lexer::new(file.escape, &known)).unwrap();
            let Instruction::Change(wharf_dockerfile::Change::Label(pairs)) = expanded else { panic!() };
            assert_eq!(pairs[0].key, "it's");
            assert_eq!(pairs[0].value, given["it's"]);
        }
    }
}
