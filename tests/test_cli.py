"The commands as a person calls them"
import json,subprocess,sys
from pathlib import Path
import torch
from PIL import Image
from edf_nrr.datasets import digits
from edf_nrr.export import load_export
from edf_nrr.training import random_real

BIN = Path(sys.executable).parent

def dd(cmd, *args, ok=True):
    r = subprocess.run([BIN/cmd, *map(str, args)], capture_output=True, text=True)
    assert (r.returncode==0)==ok, r.stdout+r.stderr
    return r

def test_help_names_every_option():
    for cmd,option in dict(dd_demo='--path', dd_experts='--path', dd_distill='--teacher', dd_relabel='--kind', dd_evaluate='--labels', dd_compare='--quick', dd_export='--format', dd_complexity='--pretrained').items(): assert option in dd(cmd, '--help').stdout

def test_bad_input_is_one_line(tmp_path):
    for args in (('dd_experts', '--data', 'nowhere'), ('dd_experts', '--data', 'digits', '--path', tmp_path/'e', '--settings', 'epoch=3'), ('dd_experts', '--data', tmp_path),
                 ('dd_distill', '--data', 'digits', '--experts', tmp_path/'none'), ('dd_evaluate', tmp_path/'none.safetensors'),
                 ('dd_distill', '--method', 'nrr-dd', '--data', 'digits', '--path', tmp_path/'n', '--settings', 'epsilon=.5'), ('dd_relabel', tmp_path/'none.safetensors'), ('dd_export', tmp_path/'none.safetensors'), ('dd_export', tmp_path),
                 ('dd_compare', '--data', 'digits', '--methods', 'eddf'), ('dd_compare', '--data', 'digits', '--labels', 'best'), ('dd_compare', '--data', 'digits', '--settings', 'dm.iteration=3'), ('dd_compare', '--data', 'cifar10', '--quick', '--root', tmp_path),
                 ('dd_complexity', '--data', 'birds_hard', '--root', tmp_path), ('dd_complexity', '--data', 'digits', '--of', 'best', '--epochs', 1, '--path', tmp_path/'c')):
        err = dd(*args, ok=False).stderr
        assert 'Traceback' not in err and len(err.strip().splitlines())==1 and err.startswith(args[0]), err

def test_distill_takes_every_method(tmp_path):
    "Each method by its name, with the tiny settings of its registration"
    from edf_nrr.methods import METHODS, parameters
    dd('dd_experts', '--data', 'digits', '--path', tmp_path/'ex', '--settings', 'n=1,epochs=2,arch=convnet_d1_w8,lr=.1')
    for name in ('mtt', 'dm', 'herding', 'rded'):
        m = METHODS[name]
        settings = ','.join(f'{k}={v}' for k,v in m.tiny.items())
        teacher = ['--arch', 'convnet_bn_d1_w16', '--epochs', 2] if 'teacher' in parameters(m.make)[0] else []
        out = dd('dd_distill', '--data', 'digits', '--method', name, '--ipc', 1, '--experts', tmp_path/'ex', '--path', tmp_path/name, '--settings', settings, *teacher).stdout
        assert f'written to {tmp_path/name/"distilled.safetensors"}' in out and load_export(tmp_path/name/'images').ipc==1

def test_a_method_of_ones_own(tmp_path):
    (tmp_path/'mine.py').write_text("from edf_nrr.methods import method\nfrom edf_nrr.training import random_real\n\n@method('mine')\ndef mine(data, ipc, seed, k=1): return random_real(data, ipc, seed+k)\n")
    dd('dd_distill', '--data', 'digits', '--method', 'mine', '--plugin', tmp_path/'mine.py', '--path', tmp_path/'m', '--ipc', 1, '--settings', 'k=3')
    assert torch.equal(load_export(tmp_path/'m/distilled.safetensors').images.cpu(), random_real(digits(device='cpu'), 1, 3).images)
    err = dd('dd_distill', '--data', 'digits', '--method', 'mine', ok=False).stderr
    assert err.startswith('dd_distill: a method must be one of'), err

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

def test_evaluate_gives_random_images_the_labels_of_the_set(tmp_path):
    d = 'dd_evaluate',tmp_path/'edf/distilled.safetensors','--data','digits'
    few = '--seeds',2,'--epochs',4,'--out',tmp_path/'r.json'
    tiny = 'iterations=2,syn_steps=2,expert_epochs=1,initial_max_start_epoch=none,max_start_epoch=1,lr_init=.05,lr_img=1'
    dd('dd_experts', '--data', 'digits', '--path', tmp_path/'experts', '--settings', 'n=1,epochs=3,arch=convnet_d1_w8,lr=.1')
    dd('dd_distill', '--data', 'digits', '--ipc', 1, '--experts', tmp_path/'experts', '--path', tmp_path/'edf', '--settings', tiny)
    def rows(*args):
        out = dd(*d, *few, *args).stdout
        return [(r['method'], r['labels'], r['sets']) for r in json.loads((tmp_path/'r.json').read_text())['rows']],out
    found,out = rows()
    assert found==[('edf', 'soft', 1), ('random real', 'soft', 2)] and 'edf is one set' in out # experts one folder up
    (tmp_path/'experts').rename(tmp_path/'away')
    found,out = rows()
    assert found[1]==('random real, hard labels', 'hard', 2) and 'no equal comparison' in out
    assert rows('--experts', tmp_path/'away')[0][1]==('random real', 'soft', 2)
    dd('dd_distill', '--method', 'herding', '--data', 'digits', '--ipc', 1, '--path', tmp_path/'h', '--arch', 'convnet_bn_d1_w8', '--epochs', 2)
    found,out = rows('--teacher', tmp_path/'h/teacher.safetensors')
    assert found[1]==('random real, labels of a teacher', 'soft', 2) and 'have labels of a teacher' in out
    err = dd(*d, '--zca', ok=False).stderr
    assert 'zca=False' in err and 'ZCA (eps' in err and len(err.strip().splitlines())==1

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

def cifar_folder(root):
    "Scenes with digits, stored as CIFAR-10 is on the Hugging Face hub"
    import io,json,pyarrow as pa,pyarrow.parquet as pq
    from edf_nrr.datasets import cluttered_digits
    d = cluttered_digits(1000, 200, size=32, object_fraction=.9, device='cpu')
    def png(x): b = io.BytesIO(); Image.fromarray(x.permute(1, 2, 0).numpy()).save(b, 'png'); return dict(bytes=b.getvalue(), path=None)
    (root/'cifar10').mkdir()
    features = dict(image=dict(_type='Image'), label=dict(_type='ClassLabel', names=d.classes))
    for name,s in (('train', d.train), ('test', d.test)):
        t = pa.table(dict(image=[png(x) for x in s.raw()], label=s.y.tolist())).replace_schema_metadata({'huggingface': json.dumps(dict(info=dict(features=features)))})
        pq.write_table(t, root/'cifar10'/f'{name}-00000-of-00001.parquet')

def test_compare_writes_a_report_and_goes_on(tmp_path):
    cifar_folder(tmp_path)
    few = 'n_train=800,n_test=100,arch=convnet_d1_w8,teacher.arch=convnet_bn_d1_w16,teacher.epochs=15,teacher.augment=none,dm.arch=convnet_d1_w8,dm.iterations=3,nrr-dd.iterations=3'
    args = 'dd_compare','--data','cifar10','--root',tmp_path,'--ipc',1,'--quick','--no_flip','--methods','dm,rded,nrr-dd','--seeds',2,'--budget',6,'--path',tmp_path/'c','--settings',few
    out = dd(*args).stdout
    assert 'cifar10: 800 training and 100 test images, 3x16x16' in out
    r = json.loads((tmp_path/'c/comparison.json').read_text())
    assert [(o['method'], o['labels']) for o in r['rows']]==[(m, l) for m in ('random real', 'dm', 'rded', 'nrr-dd', 'full data') for l in ('hard', 'soft', 'own')]
    assert r['command'].startswith('dd_compare --data cifar10') and (tmp_path/'c/comparison.html').exists()
    assert (tmp_path/'c/comparison.md').read_text().strip() in out
    sets = sorted((tmp_path/'c/sets').glob('dm-*.safetensors'))
    assert len(sets)==2 # one a seed
    assert {o['method']: o['sets'] for o in r['rows']}=={'random real': 2, 'dm': 2, 'rded': 2, 'nrr-dd': 2, 'full data': 1}
    assert '| nrr-dd (high confidence, kl loss) | 1 | 2 |' in out
    students = {f.name: f.stat().st_mtime_ns for f in (tmp_path/'c/students').iterdir()}
    dd(*args, '--distilled', sets[0])
    again = json.loads((tmp_path/'c/comparison.json').read_text())['rows']
    assert [o for o in again if o['method']!=sets[0].stem]==r['rows']
    first = [[o['accuracy'][0] for o in res if o['method']==m] for res,m in ((again, sets[0].stem), (r['rows'], 'dm'))]
    assert first[0]==first[1] # the same set from its file
    assert students.items()<={f.name: f.stat().st_mtime_ns for f in (tmp_path/'c/students').iterdir()}.items()
