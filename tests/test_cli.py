"The commands as a person calls them"
import json,subprocess,sys
from pathlib import Path
import pytest,torch
from PIL import Image
from edf_nrr.data import digits
from edf_nrr.export import load_export
from edf_nrr.training import random_real

BIN = Path(sys.executable).parent

def dd(cmd, *args, ok=True):
    r = subprocess.run([BIN/cmd, *map(str, args)], capture_output=True, text=True)
    assert (r.returncode==0)==ok, r.stdout+r.stderr
    return r

def test_help_names_every_option():
    for cmd,option in dict(dd_demo='--path', dd_experts='--path', dd_distill='--teacher', dd_relabel='--kind', dd_evaluate='--labels', dd_export='--format', dd_complexity='--pretrained').items(): assert option in dd(cmd, '--help').stdout

def test_bad_input_is_one_line(tmp_path):
    for args in (('dd_experts', '--data', 'nowhere'), ('dd_experts', '--data', 'digits', '--path', tmp_path/'e', '--settings', 'epoch=3'), ('dd_experts', '--data', tmp_path),
                 ('dd_distill', '--data', 'digits', '--experts', tmp_path/'none'), ('dd_evaluate', tmp_path/'none.safetensors'),
                 ('dd_distill', '--method', 'nrr', '--data', 'digits', '--path', tmp_path/'n', '--settings', 'epsilon=.5'), ('dd_relabel', tmp_path/'none.safetensors'), ('dd_export', tmp_path/'none.safetensors'), ('dd_export', tmp_path),
                 ('dd_complexity', '--data', 'birds_hard', '--root', tmp_path), ('dd_complexity', '--data', 'digits', '--of', 'best', '--epochs', 1, '--path', tmp_path/'c')):
        err = dd(*args, ok=False).stderr
        assert 'Traceback' not in err and len(err.strip().splitlines())==1 and err.startswith(args[0]), err

def test_complexity_of_a_folder_prints_its_table(tmp_path):
    "A folder of images, of two classes that a network tells apart by their colour"
    for part in ('train', 'val'):
        for c,colour in (('red', (200, 20, 20)), ('blue', (20, 20, 200))):
            (tmp_path/'data'/part/c).mkdir(parents=True)
            for i in range(12):
                im = Image.new('RGB', (16, 16), (90, 90+i, 90)); im.paste(colour, (i%6, 2, 6+i%6, 9))
                im.save(tmp_path/'data'/part/c/f'{i}.png')
    out = dd('dd_complexity', '--data', tmp_path/'data', '--size', 16, '--path', tmp_path/'c', '--arch', 'convnet_bn_d1_w16', '--epochs', 20).stdout
    r = json.loads((tmp_path/'c/complexity.json').read_text())
    for c in ('red', 'blue'): assert f"| {c} | 12 | {100*r['classes'][c]['complexity']:.1f} |" in out
    assert f"| all | 24 | {100*r['mean']:.1f} |" in out and (tmp_path/'c/complexity.png').exists() and r['command'].startswith('dd_complexity --data')

def test_export_writes_every_format(tmp_path):
    real = digits(device='cpu')
    syn = random_real(real, 2)
    syn.save(tmp_path/'d.safetensors')
    for f in ('png', 'webp', 'parquet', 'safetensors'):
        out = dd('dd_export', tmp_path/'d.safetensors', '--format', f).stdout
        assert f'20 images as {f}' in out and 'nothing is lost' in out
        back = load_export(tmp_path/f)
        assert torch.equal((back.pixels()*255).round(), (syn.pixels()*255).round()) and torch.equal(back.labels, syn.labels)
    dd('dd_export', tmp_path/'parquet', '--path', tmp_path/'png', '--format', 'webp')
    assert len(list((tmp_path/'png').rglob('*.webp')))==20 and not list((tmp_path/'png').rglob('*.png'))
    for bad in (('--format', 'jpeg'), ('--path', tmp_path), ('--path', tmp_path/'safetensors', '--format', 'png')):
        err = dd('dd_export', tmp_path/'d.safetensors', *bad, ok=False).stderr
        assert len(err.strip().splitlines())==1 and err.startswith('dd_export: '), err

def test_demo_writes_what_it_says(tmp_path):
    out = dd('dd_demo', '--path', tmp_path, '--iterations', 2, '--seeds', 2, '--epochs', 3).stdout
    for m in ('random real', 'mtt', 'datm', 'datm+cpd', 'datm+dae', 'edf', 'EDF against DATM', 'rded', 'cidd low+nrr', 'cidd high+nrr', 'CIDD (low confidence) + NRR against CIDD alone'): assert m in out
    r = json.loads((tmp_path/'results.json').read_text())
    assert [o['method'] for o in r['rows'] if o['ipc']==1]==['random real', 'mtt', 'datm', 'datm+cpd', 'datm+dae', 'edf']
    assert [(o['method'], o['labels']) for o in r['rows'] if o['ipc']==10]==[(m, k) for m in ('random real', 'rded', 'cidd low', 'cidd low+nrr', 'cidd high', 'cidd high+nrr') for k in ('hard', 'distances float16', 'soft float16')]
    for o in r['rows']: assert {'method', 'ipc', 'arch', 'labels', 'accuracy'}<=o.keys() and len(o['accuracy'])==2 and all(0<=a<=1 for a in o['accuracy'])
    assert {'command', 'seconds', 'versions'}<=r.keys()
    assert {p.name for p in tmp_path.glob('*.png')}=={'images.png', 'curves.png', 'refined.png'}
