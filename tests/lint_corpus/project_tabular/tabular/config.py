import dataclasses


@dataclasses.dataclass(frozen=True)
class Settings:
    csv: str = "table.csv"
    out: str = "out"
    batch: int = 128
    epochs: int = 20
    seed: int = 4
