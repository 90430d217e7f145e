"""A secret is found where its owner put it, in this order, and nobody is asked for it."""

import sys
from types import SimpleNamespace

import pytest

from grpo_nb import export, train
from grpo_nb.runs import credentials
from tests import small_runs

NAME = "GRPO_NB_TEST_SECRET"


@pytest.fixture
def stores(monkeypatch):
    """Installs Colab's and Kaggle's stores with the given contents; what is not in them raises, as in theirs."""
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.setattr("builtins.input", lambda *args: pytest.fail("a question was asked"))
    monkeypatch.setattr("getpass.getpass", lambda *args: pytest.fail("a question was asked"))

    def store(contents: dict):
        def get(name):
            if name not in contents:
                raise PermissionError(name)  # stands for NotebookAccessError, SecretNotFoundError, TimeoutException
            return contents[name]

        return get

    def install(*, colab: dict | None = None, kaggle: dict | None = None):
        if colab is not None:
            module = SimpleNamespace(userdata=SimpleNamespace(get=store(colab)))
            monkeypatch.setitem(sys.modules, "google.colab", module)
            monkeypatch.setitem(sys.modules, "google", SimpleNamespace(colab=module))
        if kaggle is not None:
            client = SimpleNamespace(get_secret=store(kaggle))
            monkeypatch.setitem(sys.modules, "kaggle_secrets", SimpleNamespace(UserSecretsClient=lambda: client))

    return install


def test_the_environment_comes_before_colab_before_kaggle(stores, monkeypatch):
    stores(kaggle={NAME: "kaggle"})
    assert credentials.secret(NAME) == "kaggle"
    stores(colab={NAME: "colab"})
    assert credentials.secret(NAME) == "colab"
    monkeypatch.setenv(NAME, "environment")
    assert credentials.secret(NAME) == "environment"


def test_a_store_that_refuses_or_holds_nothing_is_passed_over(stores):
    stores(colab={}, kaggle={NAME: "kaggle"})
    assert credentials.secret(NAME) == "kaggle"
    stores(colab={NAME: ""}, kaggle={NAME: None})
    assert credentials.secret(NAME) is None


def test_nowhere_is_none_without_a_question(stores):
    assert credentials.secret(NAME) is None


def test_pasted_white_space_is_no_part_of_a_secret(stores, monkeypatch):
    monkeypatch.setenv(NAME, "  s3cret\n")
    assert credentials.secret(NAME) == "s3cret"
    monkeypatch.setenv(NAME, " \n")
    assert credentials.secret(NAME) is None


def test_nothing_is_printed(stores, monkeypatch, capfd):
    monkeypatch.setenv(NAME, "s3cret")
    stores(colab={})
    credentials.secret(NAME)
    credentials.secret("GRPO_NB_NO_SUCH_SECRET")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["HF_TOKEN", "SWANLAB_API_KEY", "WANDB_API_KEY", "OPENAI_API_KEY", "MY_PASSWORD"])
def test_no_byte_that_a_run_writes_tells_a_secret(name, small_policy, tmp_path, monkeypatch):
    """Metrics, checkpoints with their pickled arguments, seals, adapter and summary of one run."""
    canary = "hf_canaryCANARYcanaryCANARYcanaryCANARY"
    monkeypatch.setenv(name, canary)
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    trainer, run = small_runs.trainer_of(small_policy)
    train.resume_or_start(trainer)
    run.save_summary({"after": {}})
    export.save_adapter(trainer.model, trainer.processing_class, run.folder / "adapter")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"metrics.jsonl", "training_args.bin", "seal.json", "adapter_model.safetensors"} <= {p.name for p in written}
    assert not [path.name for path in written if canary.encode() in path.read_bytes()]
