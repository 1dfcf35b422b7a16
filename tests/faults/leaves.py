"Results and folders as flat dicts of hashes, without what differs from run to run: seconds and dates"
import csv,hashlib,io,json,re
from pathlib import Path
import numpy as np, torch

VOLATILE = {'seconds', 'seconds_to_make', 'date', 'digest', 'seal'} # `digest` and `seal` are over the others
LEFTOVER = re.compile(r'\.(tmp|part|new|old)$|(^|/)\.tmp\w+$') # the last: safetensors' own

def short(b): return hashlib.blake2b(b, digest_size=8).hexdigest()

def of_tensor(t):
    t = t.detach().cpu().contiguous()
    return f'{t.dtype}{tuple(t.shape)} '+short(t.flatten().view(torch.uint8).numpy().tobytes())

def of_experts(o):
    "What `Experts` give to those who use them"
    params = [[o.params(i, e) for e in o.epochs] for i in range(len(o))]
    return dict(n=len(o), epochs=o.epochs, classes=o.classes, arch=o.arch, shapes=o.shapes, net=o.model(0), params=params)

def of_labels(o):
    "What `Labels` give to those who use them: each epoch is checked when it is asked for"
    for e in range(o.epochs): o.check_epoch(e)
    return {k: v for k,v in vars(o).items() if k not in ('file', 'intact')}

def parts(o):
    "The named parts of an object, or None for one that has none"
    if isinstance(o, dict): return {str(k): v for k,v in o.items()}
    if hasattr(o, '_asdict'): return o._asdict()
    if isinstance(o, (list, tuple)): return dict(enumerate(o))
    if type(o).__name__=='Experts': return of_experts(o)
    if type(o).__name__=='Labels': return of_labels(o)
    if isinstance(o, torch.nn.Module):
        told = {k: getattr(o, k) for k in ('classes', 'accuracy', 'about', 'space') if hasattr(o, k)}
        return o.state_dict() | told
    if hasattr(o, '__dict__') and not callable(o): return {k: v for k,v in vars(o).items() if k[0]!='_'}

def leaves(o, name=''):
    "Name of each leaf -> its text, or the hash of its bytes"
    if torch.is_tensor(o): return {name: of_tensor(o)}
    if isinstance(o, np.ndarray): return leaves(torch.tensor(o), name)
    found = parts(o) if not isinstance(o, (str, bytes, Path)) else None
    if found is None: return {name: f'{type(o).__name__} {o!r}'}
    res = {f'{name}.': f'{len(found)} {"list" if isinstance(o, (list, tuple)) else "parts"}'}
    for k,v in found.items():
        if k not in VOLATILE: res |= leaves(v, f'{name}.{k}')
    return res

def raw_tensors(file):
    "Header, its `edf_nrr` as JSON, and the bytes of each tensor"
    b = file.read_bytes()
    n = int.from_bytes(b[:8], 'little')
    head = json.loads(b[8:8+n])
    meta = json.loads(head.pop('__metadata__', {}).get('edf_nrr', 'null'))
    at = {k: v.pop('data_offsets') for k,v in head.items()}
    return dict(head=head, meta=meta, bytes={k: short(b[8+n+i:8+n+j]) for k,(i,j) in at.items()})

def parquet(file):
    import pyarrow.parquet as pq
    t = pq.ParquetFile(file).read()
    meta = {k.decode(): json.loads(v) for k,v in (t.schema.metadata or {}).items()}
    return dict(rows=t.to_pylist(), meta=meta)

def text(file):
    "Without seconds, and without the pictures of an HTML page, which show them"
    return re.sub(r'<img [^>]*>|\b[\d.]+ s\b', '', file.read_text())

def table(file):
    "Rows of a log, without their seconds"
    head,*rows = list(csv.reader(file.read_text().splitlines())) or [[]]
    keep = [i for i,k in enumerate(head) if k not in VOLATILE]
    return [[r[i] for i in keep] for r in [head, *rows]]

def picture(file):
    from PIL import Image
    return np.asarray(Image.open(io.BytesIO(file.read_bytes())))

READ = {'.safetensors': raw_tensors, '.json': lambda f: json.loads(f.read_text()), '.parquet': parquet, '.png': picture, '.webp': picture,
        '.csv': table, '.md': text, '.html': text}

def of_file(file):
    if 'lock' in file.name: return {'': 'a lock'}
    try: return leaves(READ.get(file.suffix, lambda f: f.read_bytes())(file))
    except Exception as e: return {'': f'unreadable: {type(e).__name__} {e}'}

def of_folder(folder):
    "Leaves of all files below `folder`, hidden ones too"
    files = sorted(o for o in Path(folder).rglob('*') if o.is_file())
    return {f.relative_to(folder).as_posix()+k: v for f in files for k,v in of_file(f).items()}

def leftovers(folder): return [o.relative_to(folder).as_posix() for o in Path(folder).rglob('*') if LEFTOVER.search(o.name)]

def differences(a, b, most=6):
    "The first few leaves that differ, as text"
    names = [k for k in sorted({*a, *b}) if a.get(k)!=b.get(k)]
    return [f'{k}: {str(a.get(k, "missing"))[:90]} | {str(b.get(k, "missing"))[:90]}' for k in names[:most]]
