"""Runs a model that listens, step by step: what it remembers outlasts a call where that belongs to a stream."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from edge_mcp.engine.host.batches import Report
from edge_mcp.engine.host.decoders.tracking import Heard, Step, TrackingDecoder
from edge_mcp.engine.host.features import Features, Resampler
from edge_mcp.engine.host.jobs import Job
from edge_mcp.engine.host.modalities.audio import Sound
from edge_mcp.engine.host.modalities.base import Prepared
from edge_mcp.engine.host.modalities.sound import Clip
from edge_mcp.engine.host.runtimes.base import Array, LoadedModel, session_of
from edge_mcp.engine.host.streams import Streams
from edge_mcp.engine.host.wiring import Wiring
from edge_mcp.errors import ArgumentError, EdgeError, ModelError
from edge_mcp.repository.inputs import AudioInput


class Listening:
    """One sound or stream on its way through the model, from its first sample on."""

    def __init__(
        self, model: LoadedModel, wiring: Wiring, config: AudioInput, front: Features, decoder: TrackingDecoder
    ) -> None:
        self._model = session_of(model)
        self._wiring = wiring
        self._state = wiring.first_state()
        self._rate = config.rate
        self._front = front
        self._step = config.window if config.features == "samples" else config.window * config.rate // 100
        self._tail = config.tail_ms * config.rate // 1000
        self.tracker = decoder.tracker()
        self.source: tuple[int, int] | None = None
        """Rate and channels of what is fed."""
        self._resampler: Resampler | None = None
        self._steps = 0
        self._frames = 0  # of the source
        self.seconds = 0.0
        """What the model took so far."""

    @property
    def step_s(self) -> float:
        """How much sound is one step."""
        return self._step / self._rate

    def join(self, clip: Clip) -> None:
        """Be ready for what is in `clip`. Raises: ArgumentError when what came before was something else."""
        kind = (clip.rate, clip.channels)
        if self.source is None:
            self.source = kind
            self._resampler = Resampler(clip.rate, self._rate)
        elif self.source != kind:
            raise ArgumentError(
                f"the stream began with {self.source[0]} samples a second in {self.source[1]} channel(s), and this has "
                f"{kind[0]} in {kind[1]}",
                "Go on as it began, or begin another stream",
            )

    def feed(self, block: Array) -> Iterator[Step]:
        """The steps that samples of the source complete. Raises: ModelError."""
        if self._resampler is not None and self.source is not None:
            self._frames += len(block)
            yield from self._through(self._resampler.feed(block))

    def finish(self) -> Iterator[Step]:
        """The last steps. Nothing may be fed after it. Raises: ModelError."""
        if self._resampler is not None:
            yield from self._through(self._resampler.flush())
            # What the model says of the silence after the sound counts as said at its end.
            for step in self._through(np.zeros(self._tail, np.float32)):
                yield step._replace(start=min(step.start, self.end), end=min(step.end, self.end))
        for tensor in self._front.flush():
            yield self._run(tensor)

    @property
    def position_s(self) -> float:
        """How much sound was fed."""
        return self._frames / self.source[0] if self.source else 0.0

    @property
    def end(self) -> int:
        """Where the sound fed so far ends, in samples of the model's rate."""
        return round(self.position_s * self._rate)

    def _through(self, samples: Array) -> Iterator[Step]:
        for tensor in self._front.feed(samples):
            yield self._run(tensor)

    def _run(self, tensor: Array) -> Step:
        began = time.perf_counter()
        outputs = self._model.infer(self._wiring.inputs(tensor, self._state))
        self.seconds += time.perf_counter() - began
        self._state = self._wiring.next_state(outputs)
        self._steps += 1
        end = self._steps * self._step + self._front.delay
        return Step(self._wiring.score(outputs), end - self._step, end)


class Recurrent:
    """The runs of a model that listens; see batches.Runs. `front` makes its front end. `clock` is for the streams' time."""

    def __init__(
        self,
        model: LoadedModel,
        config: AudioInput,
        front: Callable[[AudioInput], Features],
        decoder: TrackingDecoder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Runs one step to warm up. Raises: ModelError when the manifest does not fit the model, or it fails."""
        self._model = model
        self._config = config
        wiring = Wiring(config, decoder.scores, front(config).size, model.inputs, model.outputs)

        def begin() -> Listening:
            return Listening(model, wiring, config, front(config), decoder)

        self._begin: Callable[[], Listening] = begin
        self._streams: Streams[Listening] = Streams(self._begin, clock)
        session_of(model).infer(wiring.inputs(np.zeros(front(config).size, np.float32), wiring.first_state()))

    def pace(self, most: int = 0) -> dict[int, float]:
        """Nothing: a run takes as long as its sound."""
        return {}

    def run(self, jobs: Sequence[Job], report: Report) -> None:
        """Fill in `prepared.source`, a `Heard`, and `seconds` of each; a job's failure is its own outcome.

        `report` is told how many seconds of sound of how many are done.
        """
        for job in jobs:
            job.attempt(partial(self._one, report))

    def close(self) -> None:
        """Forget all streams, and give the model's memory back."""
        self._streams.clear()
        self._model.close()

    def _one(self, report: Report, job: Job) -> None:
        sound: Sound = job.prepared.source
        if not sound.stream:
            self._listen(self._begin(), job, True, report, {})
            return
        with self._streams.using(job.item.owner, sound.stream) as use:
            if sound.clip is not None:
                use.keep = True  # what cannot be joined leaves it as it was
                use.state.join(sound.clip)
                use.keep = False
            about = {"name": sound.stream, "new": use.is_new}
            try:
                self._listen(use.state, job, sound.end, report, about)
            except (EdgeError, MemoryError) as error:
                raise ModelError(f"{error}. The stream {sound.stream} is closed", "Its next call begins it anew") from error
            use.keep = not sound.end

    def _listen(self, listening: Listening, job: Job, end: bool, report: Report, about: Mapping[str, object]) -> None:
        sound: Sound = job.prepared.source
        threshold = job.arguments["threshold"]
        began_at, began = listening.position_s, listening.seconds
        scores: list[float] = []
        for step in self._steps(listening, sound.clip, end, report):
            scores.append(step.score)
            listening.tracker.follow(step, threshold)
        if end:
            listening.tracker.finish(listening.end)
        stream = {**about, "position_s": round(listening.position_s, 4), "ended": end} if about else {}
        heard = Heard(listening.tracker.told(), listening.position_s - began_at, listening.step_s, scores, stream)
        job.prepared = Prepared({}, heard)
        job.seconds = listening.seconds - began

    def _steps(self, listening: Listening, clip: Clip | None, end: bool, report: Report) -> Iterator[Step]:
        if clip is not None:
            listening.join(clip)
            done, total = 0, max(1, (clip.frames or 0) // clip.rate)
            for block in clip.blocks():
                yield from listening.feed(block)
                done += len(block)
                report(min(done // clip.rate, total), total)
        if end:
            yield from listening.finish()
