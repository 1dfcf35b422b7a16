"The commands as a person calls them"
import inspect,json,re,resource,shlex,subprocess,sys,time
from pathlib import Path
import pytest, torch
from fastcore.docments import docments
from PIL import Image
from edf_nrr.cli import COMMANDS, DocumentedCommand, parse_settings, section_rows
from edf_nrr.datasets import digits
from edf_nrr.core import Distilled
from edf_nrr.export import load_export
from edf_nrr.training import random_real

BIN = Path(sys.executable).parent

def shell(*args, code=0, **kwargs):
    "Run what a person types. `code`: the exit status that it must have"
    r = subprocess.run([BIN/args[0], *map(str, args[1:])], capture_output=True, text=True, **kwargs)
    assert r.returncode==code, r.stdout+r.stderr
    return r

def dd(cmd, *args, ok=True): return shell('dd', cmd, *args, code=0 if ok else 1)

def help_of(name):
    "The help text of a command, made in this process"
    cmd = DocumentedCommand(name, COMMANDS[name])
    return cmd.get_help(cmd.make_context(f'dd {name}', [], resilient_parsing=True))

# ---- help ----
def test_the_names_of_the_command(tmp_path):
    "dd, edf_nrr, each dd_... and the module are one command"
    for args in (['dd'], ['edf_nrr'], ['dd', '--help'], [sys.executable, '-m', 'edf_nrr.cli']):
        out = shell(*args, cwd=tmp_path).stdout
        assert all(re.search(rf'^  {name} ', out, re.M) for name in COMMANDS), out
    from edf_nrr import __version__
    assert shell('dd', '--version').stdout==f'edf_nrr {__version__}\n'
    for name in ('distill', 'demo'):
        alone,sub = shell(f'dd_{name}', '--help').stdout,shell('dd', name, '--help').stdout
        assert alone.replace(f'dd_{name}', f'dd {name}')==sub

@pytest.mark.parametrize('name', COMMANDS)
def test_help(name):
    "Each parameter once, with dashes, its comment and its default; examples; nothing about what is not there"
    text = help_of(name)
    found = docments(inspect.unwrap(COMMANDS[name].f), full=True, returns=False)
    for k,v in found.items():
        option = k.upper() if v.default is inspect.Parameter.empty else '--'+k.replace('_', '-')
        assert len(re.findall(rf'^  {option}\b(?!-)', text, re.M))==1, f'{option}\n{text}'
    flat = re.sub(r'\s+', '', text)
    for v in found.values(): assert re.sub(r'\s+', '', v.docment.replace('`', '')) in flat, v.docment
    assert '[default: ]' not in text and '[default: None]' not in text and '_' not in ''.join(re.findall(r'^  --\S+', text, re.M))
    assert '\nExamples:\n  dd '+name in text and ('--device' in text)==COMMANDS[name].computes

def parsed(line):
    "Options of an example, parsed and not run"
    _,name,*args = shlex.split(line.removesuffix(' --settings help'))
    return DocumentedCommand(name, COMMANDS[name]).make_context(f'dd {name}', args).params

README = re.findall(r'^dd .*', (Path(__file__).parent.parent/'README.md').read_text(), re.M)

@pytest.mark.parametrize('line', [line for o in COMMANDS.values() for line in o.examples] + README)
def test_examples_can_be_parsed(line):
    from edf_nrr.methods import METHODS
    options = parsed(line)
    if not line.startswith('dd complexity'):
        for m in (options.get('methods') or options.get('method') or 'edf').split(','): assert m in (*METHODS, 'mine', 'none')
    parse_settings(options.get('settings'))

def test_help_is_fast():
    "CPU time, the median of three: no torch, no fastai"
    def once():
        a = resource.getrusage(resource.RUSAGE_CHILDREN)
        shell('dd', 'distill', '--help')
        b = resource.getrusage(resource.RUSAGE_CHILDREN)
        return b.ru_utime+b.ru_stime-a.ru_utime-a.ru_stime
    assert sorted(once() for _ in range(3))[1]<.65

# ---- spellings, mistakes ----
def test_spellings():
    "Underscores and former names mean the same"
    for a,b in (('distill --object-fraction .5', 'distill --object_fraction .5'), ('distill --teacher-arch x --teacher-epochs 3', 'distill --arch x --epochs 3'), ('compare --no-flip', 'compare --no_flip'),
                ('evaluate s --student-arch x --student-epochs 3', 'evaluate s --arch x --epochs 3'), ('relabel s --student-epochs 3', 'relabel s --epochs 3'), ('complexity --teacher-epochs 3', 'complexity --epochs 3'), ('demo --student-epochs 3', 'demo --epochs 3')):
        assert parsed(f'dd {a}')==parsed(f'dd {b}')
        for old in re.findall(r'--(\S+)', b): assert f'--{old} ' not in help_of(b.split()[0])

@pytest.mark.parametrize('args,says', [
    (('distill', '--objct-fraction', '.5'), "dd distill: No such option '--objct-fraction'. Did you mean '--object-fraction'?"),
    (('distill', '--ipc', 'ten'), "dd distill: Invalid value for '--ipc': 'ten' is not a valid integer."),
    (('relabel',), "dd relabel: Missing argument 'DISTILLED'."),
    (('relabel', 'a', 'b'), 'dd relabel: Got unexpected extra argument (b)'),
    (('distil',), "dd: no command 'distil': did you mean 'distill'?")])
def test_a_wrong_option_is_one_line(args, says): assert shell('dd', *args, code=2).stderr==f'{says}\n'

def test_a_closed_pipe_is_no_error(tmp_path):
    r = subprocess.run(f'"{BIN}/dd" settings edf | head -1', shell=True, capture_output=True, text=True)
    assert r.stdout=='Settings of edf:\n' and r.stderr==''

# ---- options from a file ----
def test_config(tmp_path):
    f = tmp_path/'o.toml'
    def options(text, *args):
        f.write_text(text)
        return parsed(f'dd distill --config {f} '+' '.join(args))
    got = options('data = "digits"\nno-flip = true\nepochs = 3\nobject_fraction = 0.5\n[settings]\niterations = 5\nmask = "none"', '--data', 'cifar10')
    assert got['data']=='cifar10' and got['no_flip'] is True and got['teacher_epochs']==3 and got['object_fraction']==.5
    assert parse_settings(got['settings'])==dict(iterations=5, mask=None)
    assert parse_settings(options('settings = "iterations=5"')['settings'])==dict(iterations=5)
    f.write_text('methods = ["edf", "nrr-dd"]\n[settings.edf]\niterations = 5')
    got = parsed(f'dd compare --config {f}')
    assert got['methods']=='edf,nrr-dd' and parse_settings(got['settings'])=={'edf.iterations': 5}

@pytest.mark.parametrize('text,says', [('metod = "edf"', "distill has no option 'metod': did you mean 'method'?"), ('config = "o"', "distill has no option 'config'"), ('ipc = 1.5', "'1.5' is not a valid integer"),
                                       ('ipc', 'cannot be read as TOML'), ('[settings]\niteration = 5', "did you mean 'iterations'?")])
def test_a_wrong_config_is_one_line(tmp_path, text, says):
    (tmp_path/'o.toml').write_text(text)
    line = shell('dd', 'distill', '--config', tmp_path/'o.toml', code=1 if 'settings' in text else 2).stderr
    assert says in line and len(line.splitlines())==1 and (str(tmp_path/'o.toml') in line or 'settings' in text)

def test_config_runs_a_command(tmp_path):
    (tmp_path/'o.toml').write_text(f'data = "digits"\npath = "{tmp_path}/ex"\nexpert-arch = "convnet_d1_w8"\nexpert-epochs = 1\n[settings]\nn = 1\n')
    out = dd('experts', '--config', tmp_path/'o.toml', '--expert-epochs', 2).stdout
    assert 'Experts(1 of convnet_d1_w8' in out and json.loads((tmp_path/'ex/experts.json').read_text())['config']['epochs']==2
    assert 'flip' not in json.loads((tmp_path/'ex/experts.json').read_text())['config']['augment']['strategy'] # of digits

# ---- settings in words ----
def test_settings_help():
    "Every setting of every method and section, with its meaning"
    from edf_nrr.methods import METHODS, known_settings
    for name,m in METHODS.items():
        rows = {k: (default, what) for k,_,default,what in section_rows(name)}
        assert list(rows)==known_settings(m) and all(what for _,what in rows.values()), name
    for name in ('experts', 'teacher', 'protocol', 'preset', 'labels'): assert all(what for *_,what in section_rows(name)), name
    assert {k: default for k,_,default,_ in section_rows('mtt')}['labels']=='hard'
    a,b = (dd(*o).stdout for o in (('settings', 'rded'), ('distill', '--method', 'rded', '--settings', 'help')))
    assert a==b and re.search(r'crops +Random crops of each real image, of which one stays', a)
    assert 'dtype' in dd('relabel', '--settings=help').stdout
    assert "did you mean 'edf'?" in dd('settings', 'eddf', ok=False).stderr

# ---- device ----
def test_device(tmp_path):
    dd('distill', '--data', 'digits', '--method', 'rded', '--ipc', 1, '--path', tmp_path/'a', '--device', 'cpu', '--teacher-epochs', 1, '--teacher-arch', 'convnet_bn_d1_w16')
    n = torch.cuda.device_count()
    err = dd('distill', '--data', 'digits', '--device', f'cuda:{n}', ok=False).stderr
    assert err.startswith('dd distill: device must be one of [') and f"got 'cuda:{n}'" in err and len(err.splitlines())==1

def test_output_comes_at_once(tmp_path):
    "A line reaches a file when it is printed"
    (tmp_path/'slow.py').write_text("from edf_nrr.methods import method\n\n@method('slow')\ndef slow(data, ipc, seed):\n    import time\n    print('started')\n    time.sleep(60)\n")
    with open(tmp_path/'log', 'w') as f:
        p = subprocess.Popen([BIN/'dd', 'distill', '--data', 'digits', '--method', 'slow', '--plugin', tmp_path/'slow.py', '--path', tmp_path/'s'], stdout=f, stderr=subprocess.PIPE, text=True)
        try:
            while 'started' not in (tmp_path/'log').read_text():
                assert p.poll() is None, p.stderr.read()
                time.sleep(.2)
            p.terminate()
            assert p.stderr.read()=='dd distill: stopped. What was finished is kept: the same command goes on from there\n' and p.wait()==143
        finally: p.kill()

def test_bad_input_is_one_line(tmp_path):
    for args in (('experts', '--data', 'nowhere'), ('experts', '--data', 'digits', '--path', tmp_path/'e', '--settings', 'epoch=3'), ('experts', '--data', tmp_path),
                 ('distill', '--data', 'digits', '--experts', tmp_path/'none'), ('evaluate', tmp_path/'none.safetensors'),
                 ('distill', '--method', 'nrr-dd', '--data', 'digits', '--path', tmp_path/'n', '--settings', 'epsilon=.5'), ('relabel', tmp_path/'none.safetensors'), ('export', tmp_path/'none.safetensors'), ('export', tmp_path),
                 ('compare', '--data', 'digits', '--methods', 'eddf'), ('compare', '--data', 'digits', '--labels', 'best'), ('compare', '--data', 'digits', '--settings', 'dm.iteration=3'), ('compare', '--data', 'cifar10', '--quick', '--root', tmp_path),
                 ('complexity', '--data', 'birds_hard', '--root', tmp_path), ('complexity', '--data', 'digits', '--of', 'best', '--epochs', 1, '--path', tmp_path/'c')):
        err = dd(*args, ok=False).stderr
        assert 'Traceback' not in err and len(err.strip().splitlines())==1 and err.startswith(f'dd {args[0]}: '), err

def test_distill_takes_every_method(tmp_path):
    "Each method by its name, with the tiny settings of its registration"
    from edf_nrr.methods import METHODS, parameters
    dd('experts', '--data', 'digits', '--path', tmp_path/'ex', '--settings', 'n=1,epochs=2,arch=convnet_d1_w8,lr=.1')
    for name in ('mtt', 'dm', 'herding', 'rded'):
        m = METHODS[name]
        settings = ','.join(f'{k}={v}' for k,v in m.tiny.items())
        teacher = ['--teacher-arch', 'convnet_bn_d1_w16', '--teacher-epochs', 2] if 'teacher' in parameters(m.make)[0] else []
        out = dd('distill', '--data', 'digits', '--method', name, '--ipc', 1, '--experts', tmp_path/'ex', '--path', tmp_path/name, '--settings', settings, *teacher).stdout
        assert f'written to {tmp_path/name/"distilled.safetensors"}' in out and Distilled.load(tmp_path/name/'distilled.safetensors').ipc==1 and not (tmp_path/name/'images').exists()

def test_a_method_of_ones_own(tmp_path):
    (tmp_path/'mine.py').write_text("from edf_nrr.methods import method\nfrom edf_nrr.training import random_real\n\n@method('mine')\ndef mine(data, ipc, seed, k=1): return random_real(data, ipc, seed+k)\n")
    dd('distill', '--data', 'digits', '--method', 'mine', '--plugin', tmp_path/'mine.py', '--path', tmp_path/'m', '--ipc', 1, '--settings', 'k=3')
    assert torch.equal(load_export(tmp_path/'m/distilled.safetensors').images.cpu(), random_real(digits(device='cpu'), 1, 3).images)
    err = dd('distill', '--data', 'digits', '--method', 'mine', ok=False).stderr
    assert err.startswith('dd distill: a method must be one of'), err

def test_complexity_of_a_folder_prints_its_table(tmp_path):
    "A folder of images, of two classes that a network tells apart by their colour"
    for part in ('train', 'val'):
        for c,colour in (('red', (200, 20, 20)), ('blue', (20, 20, 200))):
            (tmp_path/'data'/part/c).mkdir(parents=True)
            for i in range(12):
                im = Image.new('RGB', (16, 16), (90, 90+i, 90)); im.paste(colour, (i%6, 2, 6+i%6, 9))
                im.save(tmp_path/'data'/part/c/f'{i}.png')
    out = dd('complexity', '--data', tmp_path/'data', '--path', tmp_path/'c', '--teacher-arch', 'convnet_bn_d1_w16', '--teacher-epochs', 20).stdout
    r = json.loads((tmp_path/'c/complexity.json').read_text())
    for c in ('red', 'blue'): assert f"| {c} | 12 | {100*r['classes'][c]['complexity']:.1f} |" in out
    assert f"| all | 24 | {100*r['mean']:.1f} |" in out and (tmp_path/'c/complexity.png').exists() and r['command'].startswith('dd complexity --data')

def test_evaluate_gives_random_images_the_labels_of_the_set(tmp_path):
    d = 'evaluate',tmp_path/'edf/distilled.safetensors'
    few = '--seeds',2,'--student-epochs',4,'--out',tmp_path/'r.json'
    tiny = 'iterations=2,syn_steps=2,expert_epochs=1,initial_max_start_epoch=none,max_start_epoch=1,lr_init=.05,lr_img=1'
    dd('experts', '--data', 'digits', '--path', tmp_path/'experts', '--settings', 'n=1,epochs=3,arch=convnet_d1_w8,lr=.1')
    dd('distill', '--data', 'digits', '--ipc', 1, '--experts', tmp_path/'experts', '--path', tmp_path/'edf', '--settings', tiny)
    def rows(*args):
        out = dd(*d, *few, *args).stdout
        return [(r['method'], r['labels'], r['sets']) for r in json.loads((tmp_path/'r.json').read_text())['rows']],out
    found,out = rows()
    assert found==[('edf', 'soft', 1), ('random real', 'soft', 2), ('full data', 'hard', 1)] and 'edf is one set' in out # experts one folder up
    assert f'all {len(digits(device="cpu").train):,} training images' in out and ('It pays' in out or 'It does not pay' in out or 'do not resolve' in out)
    (tmp_path/'experts').rename(tmp_path/'away')
    found,out = rows('--no-full', '--data', 'digits')
    assert found[1]==('random real, hard labels', 'hard', 2) and len(found)==2 and 'no equal comparison' in out
    assert 'points against random real, hard labels' in out or 'points over random real, hard labels' in out
    assert rows('--experts', tmp_path/'away')[0][1]==('random real', 'soft', 2)
    dd('distill', '--method', 'herding', '--data', 'digits', '--ipc', 1, '--path', tmp_path/'h', '--teacher-arch', 'convnet_bn_d1_w8', '--teacher-epochs', 2)
    found,out = rows('--teacher', tmp_path/'h/teacher.safetensors')
    assert found[1]==('random real, labels of a teacher', 'soft', 2) and 'have labels of a teacher' in out
    err = dd(*d, '--zca', ok=False).stderr
    assert 'zca=True contradicts the set, which was made with zca=False' in err and len(err.strip().splitlines())==1

def test_a_set_knows_its_folder(tmp_path):
    "Nothing is said twice; a folder that moved or changed is named before anything is trained, and an option that contradicts the set"
    for c,colour in (('red', (200, 0, 0)), ('blue', (0, 0, 200)), ('rare', (0, 200, 0))):
        (tmp_path/'data'/c).mkdir(parents=True)
        for i in range(12 if c!='rare' else 5):
            im = Image.new('RGB', (20, 16), (90, 90+i, 90)); im.paste(colour, (i%6, 2, 6+i%6, 9))
            im.save(tmp_path/'data'/c/f'{i}.png')
    (tmp_path/'data'/'red'/'bad.png').write_bytes(b'junk')
    made = 'distill','--data',tmp_path/'data','--size',8,'--resize','crop','--method','herding','--ipc',9,'--path',tmp_path/'h','--teacher-arch','convnet_bn_d1_w8'
    err = dd(*made, ok=False).stderr
    assert '1 of 30 images cannot be read' in err and 'bad.png' in err and '--skip-bad' in err
    out = dd(*made, '--skip-bad', '--bad-report', tmp_path/'bad.json').stdout
    assert 'ipc=4 in place of 9' in out and "'rare' has 4" in out and 'bad.png' in (tmp_path/'bad.json').read_text()
    d = 'evaluate',tmp_path/'h/distilled.safetensors','--seeds',1,'--student-epochs',2,'--student-arch','convnet_d1_w8'
    assert 'all 23 training images' in dd(*d).stdout
    for k,v,was in (('size', 16, 8), ('resize', 'squash', 'crop'), ('n-train', 9, None)):
        err = dd(*d, f'--{k}', v, ok=False).stderr
        assert f'{k.replace("-", "_")}={v} contradicts the set, which was made with {k.replace("-", "_")}={was}' in err
    (tmp_path/'data').rename(tmp_path/'moved')
    assert 'where there is no folder now: say where its data are (--data)' in dd(*d, ok=False).stderr
    assert 'Note' not in dd(*d, '--no-full', '--data', tmp_path/'moved').stdout
    (tmp_path/'moved'/'red'/'3.png').unlink()
    assert 'images then' in dd(*d, '--no-full', '--data', tmp_path/'moved').stdout
    (tmp_path/'moved').rename(tmp_path/'data')
    assert 'has changed since this set was made' in dd(*d, ok=False).stderr

def test_export_writes_every_format(tmp_path):
    real = digits(device='cpu')
    syn = random_real(real, 2)
    syn.save(tmp_path/'d.safetensors')
    for f in ('png', 'webp', 'parquet', 'safetensors'):
        out = dd('export', tmp_path/'d.safetensors', '--format', f).stdout
        assert f'20 images as {f}' in out and 'nothing is lost' in out
        back = load_export(tmp_path/f)
        assert torch.equal((back.pixels()*255).round(), (syn.pixels()*255).round()) and torch.equal(back.labels, syn.labels)
    dd('export', tmp_path/'parquet', '--path', tmp_path/'png', '--format', 'webp')
    assert len(list((tmp_path/'png').rglob('*.webp')))==20 and not list((tmp_path/'png').rglob('*.png'))
    for bad in (('--format', 'jpeg'), ('--path', tmp_path), ('--path', tmp_path/'safetensors', '--format', 'png')):
        err = dd('export', tmp_path/'d.safetensors', *bad, ok=False).stderr
        assert len(err.strip().splitlines())==1 and err.startswith('dd export: '), err

def results_of(folder, ipc):
    "Methods and labels of a demo's results"
    r = json.loads((folder/'results.json').read_text())
    assert {'command', 'seconds', 'versions'}<=r.keys()
    for o in r['rows']: assert {'method', 'ipc', 'arch', 'labels', 'accuracy', 'data'}<=o.keys() and len(o['accuracy'])==2 and all(0<=a<=1 for a in o['accuracy'])
    return [(o['method'], o['labels']) for o in r['rows'] if o['ipc']==ipc]

def test_demo_writes_what_it_says(tmp_path):
    args = 'demo','--path',tmp_path,'--iterations',2,'--seeds',2,'--student-epochs',3
    r = dd(*args)
    for o in ('EDF: one image a class teaches', 'NRR-DD: ten images', 'Labels of 4 bytes'): assert o in r.stdout
    assert r.stderr=='' # no warnings of others
    assert [m for m,_ in results_of(tmp_path, 1)]==['random real', 'mtt', 'datm', 'edf']
    kinds = 'hard','distances float16','soft float16','components, 4 bytes'
    assert results_of(tmp_path, 10)==[(m, k) for m in ('random real', 'nrr-dd', 'ce-refine') for k in kinds]
    assert {p.name for p in tmp_path.glob('*.png')}=={'images.png', 'curves.png', 'refined.png'}
    teacher = (tmp_path/'teacher.safetensors').stat().st_mtime_ns
    dd(*args)
    assert (tmp_path/'teacher.safetensors').stat().st_mtime_ns==teacher # what is there is not made again

@pytest.mark.long
def test_the_full_demo(tmp_path):
    out = dd('demo', '--full', '--path', tmp_path, '--iterations', 2, '--seeds', 2, '--student-epochs', 3).stdout
    for m in ('datm+dae', 'cidd low+nrr', 'CIDD (low confidence) + NRR against CIDD alone'): assert m in out
    assert [m for m,_ in results_of(tmp_path, 1)]==['random real', 'mtt', 'datm', 'datm+cpd', 'datm+dae', 'edf']
    assert results_of(tmp_path, 10)==[(m, k) for m in ('random real', 'rded', 'cidd low', 'cidd low+nrr', 'cidd high', 'cidd high+nrr') for k in ('hard', 'distances float16', 'soft float16')]

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
    args = 'compare','--data','cifar10','--root',tmp_path,'--ipc',1,'--quick','--no-flip','--methods','dm,rded,nrr-dd','--seeds',2,'--budget',6,'--path',tmp_path/'c','--settings',few
    out = dd(*args).stdout
    assert 'cifar10: 800 training and 100 test images, 3x16x16' in out
    r = json.loads((tmp_path/'c/comparison.json').read_text())
    assert [(o['method'], o['labels']) for o in r['rows']]==[(m, l) for m in ('random real', 'dm', 'rded', 'nrr-dd', 'full data') for l in ('hard', 'soft', 'own')]
    assert r['command'].startswith('dd compare --data cifar10') and (tmp_path/'c/comparison.html').exists()
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
