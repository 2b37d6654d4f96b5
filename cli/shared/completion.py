"""What shells offer for the values of options."""

from importlib.resources import files


def complete_recipe(incomplete: str) -> list[str]:
    """Recipes that come with the package; paths are completed by the shell itself."""
    folder = files("plsctl.hardware_configs") / "recipes"
    names = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir())
    return [name for name in names if name.startswith(incomplete)]
