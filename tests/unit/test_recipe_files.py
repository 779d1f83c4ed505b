"""The files in recipes/ and the commands and libraries that take them."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_rows import BASE, write_rows

from interleave_thinker.cli import main
from interleave_thinker.research.train import grpo, models
from interleave_thinker.research.train.grpo import GrpoOptions

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"))


class TestRecipes:
    """Every option of the YAML files is one of the commands', and the installed libraries take its value."""

    FILES = sorted({*RECIPES.glob("sft_*.yaml"), *RECIPES.glob("grpo_*.yaml")})

    def words(self, file, data, out):
        role = (
            ["grpo", "--generator", "tiny", "--judge", "checker"] if file.stem.startswith("grpo") else ["sft", "critic"]
        )
        return [*role, "--model", str(BASE), "--data", str(data), "--out", str(out), "--config", str(file)]

    @pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
    def test_the_command_takes_it(self, data, tmp_path, capsys, file):
        assert main([*self.words(file, data, tmp_path / "o"), "--dry-run"]) == 0, capsys.readouterr().err
        assert "12 " in capsys.readouterr().out

    @pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
    def test_trl_and_peft_take_it(self, data, tmp_path, monkeypatch, file):
        from interleave_thinker.research.train import sft

        taken = []
        monkeypatch.setattr(grpo, "train_critic", lambda options, *_: taken.append(options) or tmp_path)
        monkeypatch.setattr(sft, "fine_tune", lambda options, *_: taken.append(options) or tmp_path)
        assert main(self.words(file, data, tmp_path / "o")) == 0
        (options,) = taken
        module = grpo if isinstance(options, GrpoOptions) else sft
        arguments = module.trainer_arguments(options)
        assert arguments.learning_rate == options.learning_rate and options.out in Path(arguments.output_dir).parents
        assert (models.lora(options.base) is not None) == bool(options.base.lora_rank)

    @pytest.mark.parametrize("file", sorted(RECIPES.glob("accelerate_*.yaml")), ids=lambda f: f.stem)
    def test_accelerate_takes_it(self, file):
        from accelerate.commands.config.config_args import load_config_from_file

        config = load_config_from_file(str(file))
        assert config.num_processes == 8 and config.deepspeed_config["zero_stage"] == 3
