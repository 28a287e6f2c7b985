"""The stages of a run that follow the scene: what they remember can be handed over to a run that continues the clip."""

from __future__ import annotations

from dataclasses import dataclass

from fusepipe.config.schema import Rig
from fusepipe.core.counts import CountSettings
from fusepipe.core.frames import Band, Frame, FramePair
from fusepipe.pipeline.sources.base import SourceInfo
from fusepipe.pipeline.stages.denoising import NoiseReduction
from fusepipe.pipeline.stages.scene_state import SceneState, for_stage, of_stage
from fusepipe.pipeline.stages.sensor_repair import SensorRepair
from fusepipe.pipeline.stages.tonemap import ToneMap
from fusepipe.rig.factories.live_sinks import Warn
from fusepipe.rig.factories.sensor_corrections import make_noise_reductions, make_sensor_repair
from fusepipe.rig.factories.tone_map import make_tone_map


@dataclass(frozen=True, slots=True)
class SceneStages:
    """Sensor repair, noise reduction by camera, and tone mapping; ``None`` and missing ones are not asked for."""

    repair: SensorRepair | None
    noisy: dict[Band, NoiseReduction]
    tone_map: ToneMap

    def follow(self, pair: FramePair) -> None:
        """Takes a pair as a run does, without an image of it; of its visible frame nothing is followed."""
        if self.repair is not None:
            pair = self.repair(pair)
        if pair.infrared is None:
            return
        if (noise := self.noisy.get(Band.INFRARED)) is not None:
            noise(pair.infrared)
        self.tone_map.follow(pair.infrared)

    def needs(self, frame: Frame) -> bool:
        """Whether :meth:`follow` would look at the image of this infrared frame; not where only time has passed.

        Sizes and types of the images do not change: after one that does, the answer is a guess.
        """
        noise = self.noisy.get(Band.INFRARED)
        return (
            (self.repair is not None and self.repair.needs(frame))
            or (noise is not None and noise.needs(frame))
            or self.tone_map.needs(frame)
        )

    def pass_over(self, frame: Frame) -> None:
        """Takes an infrared frame that :meth:`needs` no image of, as :meth:`follow` does."""
        self.tone_map.pass_over(frame)

    def state(self) -> SceneState:
        """What the next pairs depend on."""
        values = of_stage("gain", self.tone_map.saved())
        if self.repair is not None:
            values |= of_stage("repair", self.repair.saved())
        for band, noise in self.noisy.items():
            values |= of_stage(f"{band} noise", noise.saved())
        return SceneState(values)

    def restore(self, state: SceneState) -> None:
        """Continues as the stages, of the same settings, whose :meth:`state` this is."""
        self.tone_map.restore(for_stage("gain", state.values))
        if self.repair is not None:
            self.repair.restore(for_stage("repair", state.values))
        for band, noise in self.noisy.items():
            noise.restore(for_stage(f"{band} noise", state.values))


def make_scene_stages(rig: Rig, infrared: SourceInfo, settings: CountSettings, warn: Warn) -> SceneStages:
    """Those that the cameras of a rig ask for; ``infrared`` is what that camera delivers.

    Raises :class:`ConfigError` as the factories of the stages do.
    """
    return SceneStages(
        make_sensor_repair(rig.infrared, infrared, warn),
        make_noise_reductions(rig),
        make_tone_map(rig.infrared, settings, warn, infrared),
    )
