"What measurements share: results and teachers that are made once and kept in a folder"
import dataclasses,hashlib,json
from pathlib import Path
from edf_nrr.basics import read_json, write_json
from edf_nrr.teachers import load_teacher, save_teacher
from edf_nrr.training import train_teacher

def plain(o):
    "Settings as JSON can hold them"
    if dataclasses.is_dataclass(o): return dataclasses.asdict(o)
    return list(o) if isinstance(o, tuple) else str(o)

def name_of(what):
    "A name for settings `what`: equal settings, equal name"
    return hashlib.blake2b(json.dumps(what, sort_keys=True, default=plain).encode(), digest_size=8).hexdigest()

def kept(folder, what, make):
    "The JSON that `make()` gives for the settings `what`, from `folder` if it is there"
    file = Path(folder)/f'{name_of(what)}.json'
    if not file.exists(): write_json(file, make())
    return read_json(file)

def kept_teacher(data, file, arch, **how):
    "A teacher, trained once; `how` goes to `train_teacher`"
    if not Path(file).exists(): save_teacher(train_teacher(data, arch, show=False, **how), file)
    return load_teacher(file, data.device)
