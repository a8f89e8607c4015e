"""Files of rows as the scripts of this folder write them."""
import json
import os


def write_rows(path, rows):
    """One JSON object a line; the file is there whole or not at all."""
    building = path.with_name(path.name + ".building")
    with open(building, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(building, path)
