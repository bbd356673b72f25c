"""Registry files are data, and everything in them is checked."""

from pathlib import Path

import pytest

from pcsr_cli import registry
from pcsr_cli.errors import RegistryError, UnknownModelError
from pcsr_cli.nets import ORIGINALS
from pcsr_cli.registry import Entry, HubLocation, load_registry, read_registry
from pcsr_cli.specs import BackboneSpec, ModelSpec, Scales

GOOD = """
[models.mine]
repo = "someone/tiny"
revision = "0123456789abcdef0123456789abcdef01234567"
backbone = { name = "carn", width = 8 }
samplers = [[4], [8, 8]]
classifier = []
mean = [0.1, 0.2, 0.3]
scales = [4, 2]
receptive_radius = 19
licence = "MIT"
source = "a test"
"""


def read(tmp_path: Path, text: str) -> registry.Registry:
    path = tmp_path / "weights.toml"
    path.write_text(text)
    return read_registry(path)


def refused(tmp_path: Path, text: str) -> RegistryError:
    with pytest.raises(RegistryError) as told:
        read(tmp_path, text)
    assert "weights.toml" in told.value.sentence
    assert told.value.sentence.endswith(".")
    return told.value


def test_the_packaged_registry_pins_the_published_model() -> None:
    carn = load_registry().get("carn")
    assert carn.location == HubLocation("3587jjh/pcsr_carn", "aa0c7379914ee54c416ef79b5d13e898a4379ebc")
    assert carn.spec == ModelSpec(
        BackboneSpec("carn", 52), ((20,) * 3, (74,) * 4), (10, 10), mean=(0.4488, 0.4371, 0.4040)
    )
    assert (carn.scales, carn.receptive_radius, carn.parameters) == (Scales((4.0,)), 19, 168_970)
    assert carn.licence == "not stated by its authors"


def test_every_packaged_entry_is_in_the_order_of_choice_or_asked_for_by_name() -> None:
    packaged = load_registry()
    assert set(packaged.auto) <= set(packaged.entries)


def test_originals_are_the_networks_there_are() -> None:
    assert set(registry.ORIGINALS) == set(ORIGINALS)


def test_an_entry_is_read_in_full(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).entries == {
        "mine": Entry(
            name="mine",
            location=HubLocation("someone/tiny", "0123456789abcdef0123456789abcdef01234567"),
            spec=ModelSpec(BackboneSpec("carn", 8), ((4,), (8, 8)), (), (0.1, 0.2, 0.3)),
            scales=Scales((2.0, 4.0)),
            receptive_radius=19,
            licence="MIT",
            source="a test",
        )
    }


def test_names_are_known_or_the_known_ones_are_told() -> None:
    with pytest.raises(UnknownModelError, match=r"nonsense.*carn"):
        load_registry().get("nonsense")


def test_own_entries_add_and_override(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(GOOD + GOOD.replace("models.mine", "models.carn"))
    merged = load_registry(path)
    assert list(merged.entries)[: len(load_registry().entries)] == list(load_registry().entries)
    assert merged.get("carn").licence == merged.get("mine").licence == "MIT"
    assert merged.auto == load_registry().auto


def test_an_order_of_ones_own_replaces_the_packaged_one(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('auto = ["mine", "carn"]\n' + GOOD)
    assert load_registry(path).auto == ("mine", "carn")
    path.write_text('auto = ["nobody"]\n' + GOOD)
    with pytest.raises(RegistryError, match="nobody"):
        load_registry(path)


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("licence", "license", "licence"),
        ('source = "a test"', 'source = "a test"\ncolour = 1', "unknown keys: colour"),
        ('source = "a test"', "", "lacks keys: source"),
        ("someone/tiny", "tiny", "user/name"),
        ("someone/tiny", "someone/tiny/more", "user/name"),
        ("someone/tiny", "../tiny", "user/name"),
        ("someone/tiny", "https://huggingface.co/a", "user/name"),
        ('"someone/tiny"', "1", ""),
        ("0123456789abcdef0123456789abcdef01234567", "main", "40 hexadecimal"),
        ("0123456789abcdef0123456789abcdef01234567", "0123456", "40 hexadecimal"),
        ("[models.mine]", '[models.mine]\nfiles = { config = "../config.json" }', "without folders"),
        ("[models.mine]", '[models.mine]\nfiles = { weights = "/etc/passwd" }', "without folders"),
        ("[models.mine]", '[models.mine]\nfiles = { weights = ".." }', "without folders"),
        ("[models.mine]", '[models.mine]\nfiles = { code = "x.py" }', "code"),
        ("[models.mine]", '[models.mine]\nfiles = "model.bin"', ""),
        ("[models.mine]", '[models.mine]\nfolder = "here"', "one of repo"),
        ("[models.mine]", '[models."../mine"]', "a name is made of"),
        ("[models.mine]", "[models.Mine]", "a name is made of"),
        ('name = "carn"', 'name = "resnet"', "resnet"),
        ("width = 8", "width = 0", ""),
        ("width = 8", 'width = "8"', ""),
        ("width = 8", "width = 8.0", ""),
        ("width = 8", "width = 8, colour = 1", "colour"),
        ("[[4], [8, 8]]", "[[4]]", "two branches"),
        ("[[4], [8, 8]]", "[[4], [0]]", "[0]"),
        ("[[4], [8, 8]]", "4", ""),
        ("[[4], [8, 8]]", "[[4], [true]]", "True"),
        ("[0.1, 0.2, 0.3]", "[0.1]", ""),
        ("[0.1, 0.2, 0.3]", "[0.1, 0.2, nan]", "finite"),
        ("[4, 2]", "[]", "scales"),
        ("[4, 2]", "[0.5]", "scales"),
        ("[4, 2]", "[inf]", "scales"),
        ("[4, 2]", "4", ""),
        ("receptive_radius = 19", 'receptive_radius = "wide"', "wide"),
        ("receptive_radius = 19", "receptive_radius = 0", ""),
        ("receptive_radius = 19", 'receptive_radius = 19\nparameters = "many"', "many"),
        ("receptive_radius = 19", 'receptive_radius = 19\noriginal = "vdsr"', "original"),
    ],
)
def test_what_an_entry_must_not_say(tmp_path: Path, right: str, wrong: str, words: str) -> None:
    assert right in GOOD
    error = refused(tmp_path, GOOD.replace(right, wrong))
    assert words in error.sentence
    assert "mine" in error.sentence.lower()


@pytest.mark.parametrize("text", ["[models.mine", "models = 1", "[models]\nmine = 1", "auto = 1", "[other]\nx = 1"])
def test_what_a_registry_must_not_be(tmp_path: Path, text: str) -> None:
    refused(tmp_path, text)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for name in ("nowhere.toml", "", "binary.toml"):
        with pytest.raises(RegistryError):
            read_registry(tmp_path / name)


def test_the_own_registry_is_where_it_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PCSR_REGISTRY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert registry.own_registry_path() is None
    usual = tmp_path / "pcsr" / "weights.toml"
    usual.parent.mkdir()
    usual.write_text("")
    assert registry.own_registry_path() == usual
    monkeypatch.setenv("PCSR_REGISTRY", "named.toml")
    assert registry.own_registry_path() == Path("named.toml")


def test_a_user_without_a_home_has_no_own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PCSR_REGISTRY", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert registry.own_registry_path() is None
