//! A stage and its steps (source: moby `daemon/builder/dockerfile/{dispatchers,evaluator,internals}.go`).

use crate::{
    Base, Commit, Context, Contexts, Error, Named, Output, Request, Result, Run, Worker,
    args::Args,
    classic::variables,
    error::refuse,
    explain::reason,
    mounts::Mounts,
    steps::{Claim, Steps},
};
use std::path::Path;
use wharf_dockerfile::{Argument, Change, Instruction, Lexer, Variables, parse_trigger, shell_of};
use wharf_spec::{Healthcheck, ImageId, Platform, RunConfig};
use wharf_sys::path::Root;

/// What an image without a `PATH` gets.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// In a step's container config: what it mounted, so that other content is another step.
pub(crate) const MOUNTS_LABEL: &str = "wharf.build.mounts";
/// And its time: another time is another step.
pub(crate) const EPOCH_LABEL: &str = "wharf.build.epoch";

/// A stage so far.
pub(crate) struct Stage {
    /// Its last image; `None` is nothing.
    pub(crate) image: Option<ImageId>,
    pub(crate) args: Args,
    pub(crate) config: RunConfig,
    author: String,
    has_command: bool,
    platform: Platform,
    /// A step was not found among earlier builds: later ones are not looked for.
    is_new: bool,
    epoch: Option<i64>,
}

/// The stages before one.
pub(crate) trait Others {
    /// The image of one, once it is there.
    ///
    /// # Errors
    /// When there will be none.
    fn image(&self, stage: usize) -> Result<Option<ImageId>>;

    /// Whether to go on.
    ///
    /// # Errors
    /// When another stage failed.
    fn check(&self) -> Result<()>;
}

/// Where `--from` and `from=` lead.
#[derive(Clone, Copy)]
pub(crate) enum Tree<'b> {
    Image(ImageId),
    Context(&'b Context),
}

/// A stage's build under way.
pub(crate) struct Builder<'b, W> {
    pub(crate) worker: &'b W,
    pub(crate) request: &'b Request,
    contexts: &'b Contexts,
    escape: char,
    out: &'b mut dyn Output,
    /// Names of all stages, and which one this is.
    names: &'b [Option<String>],
    number: usize,
    others: &'b dyn Others,
    steps: &'b Steps,
    /// The step that is done now.
    claim: Option<Claim<'b>>,
    /// Containers of the step, and whether they exist.
    containers: Vec<(String, bool)>,
}

/// A stage's place among the others.
pub(crate) struct Place<'b> {
    /// Names of all stages, and which one this is.
    pub(crate) names: &'b [Option<String>],
    pub(crate) number: usize,
    pub(crate) others: &'b dyn Others,
    /// Steps of all stages.
    pub(crate) steps: &'b Steps,
    /// The file's.
    pub(crate) escape: char,
}

/// What a build is made from and how.
pub(crate) struct Inputs<'b, W> {
    pub(crate) worker: &'b W,
    pub(crate) request: &'b Request,
    pub(crate) contexts: &'b Contexts,
}

impl<'b, W: Worker> Builder<'b, W> {
    pub(crate) fn new(inputs: Inputs<'b, W>, place: Place<'b>, out: &'b mut dyn Output) -> Self {
        let Inputs { worker, request, contexts } = inputs;
        let Place { names, number, others, steps, escape } = place;
        let (claim, containers) = (None, Vec::new());
        Self { worker, request, contexts, escape, out, names, number, others, steps, claim, containers }
    }

    pub(crate) fn out(&mut self) -> &mut dyn Output {
        self.out
    }

    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        self.out.text(text)
    }

    pub(crate) fn tell_image(&mut self, stage: &Stage) -> Result<()> {
        let id = stage.image.map(|id| short(&id)).unwrap_or_default();
        self.out.text(&format!(" ---> {id}\n"))
    }

    pub(crate) fn check_name(&self, name: Option<&str>) -> Result<()> {
        match name {
            Some(name) if self.named(name).is_some() => refuse(format!("{name} stage name already used")),
            _ => Ok(()),
        }
    }

    /// The stage before this one that has this name.
    fn named(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.names[..self.number].iter().position(|stage| stage.as_deref() == Some(&*name))
    }

    /// Whether no step of this stage is taken from earlier builds.
    fn is_uncached(&self) -> bool {
        let own = self.names[self.number].as_deref();
        let is_meant = |name: &String| own == Some(&*name.to_lowercase());
        self.request.no_cache || self.request.no_cache_filter.iter().any(is_meant)
    }

    /// `FROM`: the base, and what its `ONBUILD` says.
    pub(crate) fn begin(&mut self, file: &wharf_dockerfile::Stage, args: &Args) -> Result<Stage> {
        let known = variables(args.in_from());
        let lexer = Lexer::new(self.escape, &known);
        let platform = match lexer.word(&file.platform)? {
            text if text.is_empty() => self.request.platform.clone(),
            text => Some(text.parse().map_err(|why: wharf_spec::ParsePlatformError| {
                Error::Invalid(format!("failed to parse platform {text}: {why}"))
            })?),
        };
        let name = lexer.word(&file.base)?;
        if name.is_empty() {
            return refuse(format!("base name ({}) should not be blank", file.base));
        }
        let base = self.base(&name, platform.as_ref())?;
        let mut stage = Stage::new(base, args.for_stage(), self.request.epoch);
        if let Some(triggers) = stage.config.on_build.take().filter(|triggers| !triggers.is_empty()) {
            let s = if triggers.len() > 1 { "s" } else { "" };
            self.text(&format!("# Executing {} build trigger{s}\n", triggers.len()))?;
            for trigger in triggers {
                self.step(&mut stage, parse_trigger(&trigger)?)?;
            }
        }
        Ok(stage)
    }

    fn base(&mut self, name: &str, platform: Option<&Platform>) -> Result<Base> {
        match self.contexts.named(name) {
            Some(Named::Image(image)) => {
                return self.worker.image(image, platform, self.request.pull, self.out);
            }
            Some(Named::Context(_)) => {
                return refuse(format!("{name} is a build context of files: a stage cannot begin with it"));
            }
            None => {}
        }
        let stage = self.named(name).map(|stage| self.others.image(stage)).transpose()?;
        match stage {
            Some(None) => Ok(Base::default()),
            Some(Some(image)) => self.worker.image(&image.to_string(), None, false, self.out),
            None if name == "scratch" => {
                let platform = platform.cloned().unwrap_or_else(Platform::host);
                Ok(Base { platform, ..Base::default() })
            }
            None => self.worker.image(name, platform, self.request.pull, self.out),
        }
    }

    /// Carries one instruction out. Its containers go afterwards, as the request says.
    pub(crate) fn step(&mut self, stage: &mut Stage, instruction: Instruction) -> Result<()> {
        self.others.check()?;
        let done = self.dispatch(stage, instruction);
        if let Some(claim) = self.claim.take().filter(|_| done.is_ok()) {
            claim.done();
        }
        if self.request.force_remove || (self.request.remove && done.is_ok()) {
            self.remove_containers()?;
        }
        for (id, _) in self.containers.drain(..).filter(|(_, exists)| *exists) {
            self.worker.release(&id);
        }
        done
    }

    fn remove_containers(&mut self) -> Result<()> {
        for (id, exists) in std::mem::take(&mut self.containers) {
            let short = &id[..12];
            let removed = if exists { self.worker.remove(&id) } else { Ok(()) };
            self.text(&match removed {
                Ok(()) => format!(" ---> Removed intermediate container {short}\n"),
                Err(error) => format!("Removing intermediate container {short}: {error}\n"),
            })?;
        }
        Ok(())
    }

    fn dispatch(&mut self, stage: &mut Stage, instruction: Instruction) -> Result<()> {
        let known = stage.variables();
        match instruction.expand(&Lexer::new(self.escape, &known))? {
            Instruction::Change(Change::Workdir(path)) => self.workdir(stage, path),
            Instruction::Change(change) => self.change(stage, change),
            Instruction::Arg(arguments) => self.arg(stage, &arguments),
            Instruction::Maintainer(name) => {
                stage.author.clone_from(&name);
                self.commit_comment(stage, &format!("MAINTAINER {name}"))
            }
            Instruction::Run(run) => self.run(stage, run, &known),
            Instruction::Copy(copy) => self.copy(stage, copy),
        }
    }

    fn change(&mut self, stage: &mut Stage, change: Change) -> Result<()> {
        let before =
            stage.config.healthcheck.as_ref().and_then(|check| check.test.clone()).unwrap_or_default();
        if matches!(change, Change::Healthcheck(_)) && before.first().is_some_and(|kind| kind != "NONE") {
            self.text(&format!("Note: overriding previous HEALTHCHECK: [{}]\n", before.join(" ")))?;
        }
        change.clone().apply(&mut stage.config, &mut stage.has_command)?;
        let comment = change.comment(&stage.config);
        self.commit_comment(stage, &comment)
    }

    fn arg(&mut self, stage: &mut Stage, arguments: &[Argument]) -> Result<()> {
        let mut told = Vec::new();
        for argument in arguments {
            let default = argument.default.as_ref().map(|value| format!("={value}"));
            told.push(format!("{}{}", argument.name, default.unwrap_or_default()));
            stage.args.declare(argument);
        }
        self.commit_comment(stage, &format!("ARG {}", told.join(" ")))
    }

    /// A step that changes the config only.
    fn commit_comment(&mut self, stage: &mut Stage, comment: &str) -> Result<()> {
        let made_by = stage.made_by(["#(nop) ".to_owned(), comment.to_owned()]);
        if self.is_cached(stage, &made_by)? {
            return Ok(());
        }
        let container = self.container(stage, &made_by)?;
        stage.image = Some(self.worker.commit_config(&stage.commit(&made_by, &container))?);
        Ok(())
    }

    /// The container that a step stands for: it is made only where it stays to be seen.
    fn container(&mut self, stage: &Stage, made_by: &RunConfig) -> Result<String> {
        let id = if self.request.remove || self.request.force_remove {
            let id = self.worker.container_id();
            self.containers.push((id.clone(), false));
            id
        } else {
            self.create(&Run { image: stage.image, config: made_by, network: "", binds: &[] })?
        };
        self.text(&format!(" ---> Running in {}\n", &id[..12]))?;
        Ok(id)
    }

    fn create(&mut self, run: &Run<'_>) -> Result<String> {
        let (id, warnings) = self.worker.create(run)?;
        self.containers.push((id.clone(), true));
        for warning in warnings {
            self.text(&format!(" ---> [Warning] {warning}\n"))?;
        }
        Ok(id)
    }

    pub(crate) fn is_cached(&mut self, stage: &mut Stage, made_by: &RunConfig) -> Result<bool> {
        self.claim = self.steps.claim(stage.image, made_by);
        // What another stage has just done is taken in any case.
        let is_shared = self.claim.is_none();
        if !is_shared && self.is_uncached() {
            return self.explain("the cache is not to be used").map(|()| false);
        }
        if !is_shared && stage.is_new {
            return self.explain("the step before was not cached").map(|()| false);
        }
        match self.worker.cached(stage.image, made_by)? {
            Some(image) => {
                self.text(" ---> Using cache\n")?;
                stage.image = Some(image);
                Ok(true)
            }
            None => {
                stage.is_new = true;
                if self.request.explain {
                    let earlier = self.worker.earlier(stage.image)?;
                    self.explain(&reason(made_by, &earlier))?;
                }
                Ok(false)
            }
        }
    }

    fn explain(&mut self, why: &str) -> Result<()> {
        if self.request.explain { self.text(&format!(" ---> Not cached: {why}\n")) } else { Ok(()) }
    }

    fn workdir(&mut self, stage: &mut Stage, path: String) -> Result<()> {
        Change::Workdir(path).apply(&mut stage.config, &mut stage.has_command)?;
        let made_by = stage.made_by([format!("#(nop) WORKDIR {}", stage.config.working_dir)]);
        if self.is_cached(stage, &made_by)? {
            return Ok(());
        }
        let container = self.container(stage, &made_by)?;
        let path = stage.config.working_dir.clone();
        let mut make =
            |root: &Root| match root.mkdir_all(Path::new(&path), rustix::fs::Mode::from_raw_mode(0o755)) {
                Err(error) if error.is(rustix::io::Errno::NOTDIR) => {
                    refuse(format!("Cannot mkdir: {path} is not a directory"))
                }
                made => Ok(made.map(drop)?),
            };
        let image = self.worker.commit_files(&stage.commit(&made_by, &container), &mut make)?;
        stage.image = Some(image);
        Ok(())
    }

    fn run(&mut self, stage: &mut Stage, run: wharf_dockerfile::Run, known: &Variables) -> Result<()> {
        self.check_entitlements(&run)?;
        let lexer = Lexer::new(self.escape, known);
        let shown = run.line.clone().resolve(&stage.config);
        let mounts = Mounts::read(self, &run, &lexer)?;
        let environment = stage.args.environment(stage.config.env.as_deref().unwrap_or_default());
        let mut told: Vec<String> =
            environment.iter().filter(|variable| stage.args.is_told(variable)).cloned().collect();
        told.sort_unstable();
        let saved = match environment.is_empty() {
            true => shown.clone(),
            false => [vec![format!("|{}", told.len())], told, shown.clone()].concat(),
        };
        let mut probe =
            stage.dated(RunConfig { cmd: Some(saved), entrypoint: None, ..stage.config_on_image() });
        if let Some(digest) = mounts.digest(self.context())? {
            probe.labels.get_or_insert_default().insert(MOUNTS_LABEL.into(), digest);
        }
        if self.is_cached(stage, &probe)? {
            return Ok(());
        }
        let no_health = Healthcheck { test: Some(vec!["NONE".into()]), ..Healthcheck::default() };
        let mut config = RunConfig {
            cmd: Some(shown.clone()),
            // An empty command is the image's, as moby's withEntrypointOverride leaves it.
            entrypoint: if shown.is_empty() {
                stage.config.entrypoint.clone()
            } else {
                Some(vec![String::new()])
            },
            healthcheck: Some(no_health),
            ..stage.config_on_image()
        };
        config.env.get_or_insert_default().extend(environment);
        let ran = mounts.with(self, &mut |builder, binds, secrets| {
            let mut config = config.clone();
            config.env.get_or_insert_default().extend(secrets.iter().cloned());
            let run = Run { image: stage.image, config: &config, network: &run.network, binds };
            let id = builder.create(&run)?;
            builder.text(&format!(" ---> Running in {}\n", &id[..12]))?;
            let code = builder.worker.run(&id, builder.out)?;
            let mount_points: Vec<String> = binds.iter().map(|bind| bind.target().to_owned()).collect();
            Ok((id, mount_points, code))
        })?;
        match ran {
            (id, mount_points, 0) => {
                let commit = stage.commit(&probe, &id);
                stage.image = Some(self.worker.commit_container(&id, &mount_points, &commit)?);
                Ok(())
            }
            (.., code) => Err(Error::Command { command: shown.join(" "), code }),
        }
    }

    fn check_entitlements(&self, run: &wharf_dockerfile::Run) -> Result<()> {
        match run.network.as_str() {
            "" | "default" | "none" => {}
            "host" if self.request.host_network => {}
            "host" => return refuse("network.host is not allowed"),
            other => return refuse(format!("unsupported network mode {other:?}")),
        }
        match run.security.as_str() {
            "" | "sandbox" => Ok(()),
            "insecure" => refuse("security.insecure is not allowed"),
            other => refuse(format!("security {other:?} is not valid")),
        }
    }

    /// A context of this name, a stage by name or number, or an image.
    pub(crate) fn tree_of(&mut self, name: &str) -> Result<Tree<'b>> {
        match self.contexts.named(name) {
            Some(Named::Context(context)) => Ok(Tree::Context(context)),
            Some(Named::Image(image)) => self.files_of(image).map(Tree::Image),
            None => self.image_of(name).map(Tree::Image),
        }
    }

    /// Whether files from there are a client's; those of images are a layer's that goes.
    pub(crate) fn is_context(&self, from: &str) -> bool {
        from.is_empty() || matches!(self.contexts.named(from), Some(Named::Context(_)))
    }

    fn image_of(&mut self, name: &str) -> Result<ImageId> {
        if let Some(stage) = self.named(name) {
            return self
                .others
                .image(stage)?
                .ok_or_else(|| Error::Refused(format!("stage {name} has no files")));
        }
        if let Ok(number) = name.parse::<i64>() {
            let count = self.number as i64;
            if number == count {
                return refuse("refers to current build stage");
            }
            if number < 0 || number > count {
                return refuse("index out of bounds");
            }
            let image = self.others.image(number as usize)?;
            return image.ok_or_else(|| Error::Refused(format!("stage {name} has no files")));
        }
        self.files_of(name)
    }

    fn files_of(&mut self, image: &str) -> Result<ImageId> {
        let base = self.worker.image(image, self.request.platform.as_ref(), false, self.out)?;
        base.id.ok_or_else(|| Error::Refused(format!("image {image} has no files")))
    }

    pub(crate) fn context(&self) -> Option<&'b Context> {
        self.contexts.main.as_ref()
    }
}

impl Stage {
    fn new(base: Base, args: Args, epoch: Option<i64>) -> Self {
        let mut config = base.config;
        let env = config.env.get_or_insert_default();
        if !env.iter().any(|variable| variable.starts_with("PATH=")) {
            env.push(PATH.into());
        }
        config.open_stdin = false;
        config.stdin_once = false;
        Self {
            image: base.id,
            args,
            config,
            author: String::new(),
            has_command: false,
            platform: base.platform,
            is_new: false,
            epoch,
        }
    }

    /// What instructions may use: the image's environment before arguments.
    fn variables(&self) -> Variables {
        let mut variables = Variables::of(self.config.env.as_deref().unwrap_or_default());
        for (name, value) in self.args.in_stage() {
            variables.set_default(&name, &value);
        }
        variables
    }

    /// As containers of this step have it.
    fn config_on_image(&self) -> RunConfig {
        let image = self.image.map(|id| id.to_string()).unwrap_or_default();
        RunConfig { image, ..self.config.clone() }
    }

    /// The config of the step's container: a comment for the shell.
    pub(crate) fn made_by<const N: usize>(&self, comment: [String; N]) -> RunConfig {
        let command = [shell_of(&self.config), comment.to_vec()].concat();
        self.dated(RunConfig { cmd: Some(command), ..self.config_on_image() })
    }

    /// A container's config with the time of the build in it.
    fn dated(&self, mut config: RunConfig) -> RunConfig {
        if let Some(epoch) = self.epoch {
            config.labels.get_or_insert_default().insert(EPOCH_LABEL.into(), epoch.to_string());
        }
        config
    }

    pub(crate) fn commit<'s>(&'s self, made_by: &'s RunConfig, container: &'s str) -> Commit<'s> {
        Commit {
            parent: self.image,
            author: &self.author,
            config: &self.config,
            container_config: made_by,
            platform: &self.platform,
            // Its id is by chance.
            container: if self.epoch.is_some() { "" } else { container },
            epoch: self.epoch,
        }
    }
}

fn short(id: &ImageId) -> String {
    let text = id.to_string();
    text.strip_prefix("sha256:").unwrap_or(&text)[..12].to_owned()
}
