"""``python -m documentation`` writes ``docs/reference`` anew."""

from documentation.reference import PAGES, REFERENCE

if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (REFERENCE / name).write_text(make())
