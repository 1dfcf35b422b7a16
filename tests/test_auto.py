"The search for the best set: it chooses by held-out images only, keeps what it has, stops in time, and its verdict follows from its numbers"
import dataclasses,json,subprocess,sys
import pytest, torch
from edf_nrr.auto import Search, auto, methods_to_try, recipe_in, verdict_of, worth_it
from edf_nrr.basics import mean_ci, read_json, rng
from edf_nrr.core import Distilled
from edf_nrr.data import ImageData, Split
from edf_nrr.datasets import digits
from edf_nrr.dbr import Labels, evaluate_labels
from edf_nrr.methods import METHODS, method
from edf_nrr.plan import Plan, choose_plan, estimate, ladder, peak_bytes, speeds_of, Work
from edf_nrr.report import RANDOM
from edf_nrr.training import evaluate

PLAN = Plan(8, 'convnet_d1_w16', 'convnet_bn_d1_w16', steps=15, teacher_epochs=8, seeds=2, test_seeds=2, full_seeds=1)

@pytest.fixture(scope='module')
def data(): return digits(device='cpu').take(60, 20)

@pytest.fixture
def noise():
    "A method whose images are noise"
    @method('noise')
    def make_noise(data, ipc, seed):
        y = torch.arange(data.n_classes).repeat_interleave(ipc)
        x = torch.randn(len(y), data.channels, data.size, data.size, generator=rng(seed, 'noise'))
        return Distilled(x, y, data.classes, data.norm, provenance=dict(method='noise', data=data.name))
    yield 'noise'
    del METHODS['noise']

def search(data, path, methods=('herding',), **kwargs):
    "A small search and the lines that it says"
    lines = []
    kwargs = dict(ipc=2, minutes=5, flip=False, plan=PLAN, say=lines.append) | kwargs
    return auto(data, path=path, methods=list(methods), **kwargs),lines

@pytest.fixture(scope='module')
def done(data, tmp_path_factory):
    "A search and its folder"
    path = tmp_path_factory.mktemp('auto')/'whole'
    return search(data, path)[0],path

def test_noise_does_not_pay(data, noise, tmp_path):
    res,_ = search(data, tmp_path, [noise])
    assert 'not pay here' in res.verdict and res.best['method']==RANDOM
    best = Distilled.load(tmp_path/'best'/'distilled.safetensors')
    real = {o.numpy().tobytes() for o in (data.pixels('train')*255).round().to(torch.uint8)}
    assert {o.numpy().tobytes() for o in (best.pixels()*255).round().to(torch.uint8)} <= real

def test_test_images_have_no_part_in_the_choice(data, done, tmp_path):
    res,_ = done
    wrong = ImageData(data.train, Split(data.test.images, data.test.y.flip(0)), data.classes, data.norm, data.name, data.device)
    other,_ = search(wrong, tmp_path/'b')
    assert [(r['method'], r['accuracy']) for r in other.rows]==[(r['method'], r['accuracy']) for r in res.rows]
    assert other.best==res.best | dict(seconds_to_make=other.best['seconds_to_make'])
    assert other.tested['full'][0] < .3 < res.tested['full'][0]

def test_held_out_and_test_images_are_apart(data, tmp_path):
    s = Search(data, PLAN, tmp_path, 2)
    def of(split): return {o.numpy().tobytes() for o in split.images}
    held,train = of(s.judging.test),of(s.judging.train)
    assert not held & train and not (held | train) & of(data.test)
    t = s.tested_data()
    assert of(t.train)==train and of(t.test)==of(data.test)

@pytest.mark.parametrize('after', [1, 3])
def test_a_search_that_was_stopped_goes_on(data, done, tmp_path, after):
    whole,_ = done
    class Pulled(RuntimeError): pass
    lines = []
    def say(line):
        lines.append(line)
        if len(lines)>after: raise Pulled
    with pytest.raises(Pulled): search(data, tmp_path/'cut', say=say)
    again,_ = search(data, tmp_path/'cut')
    assert again.tested==whole.tested and again.best['accuracy']==whole.best['accuracy']

def test_what_does_not_fit_is_left_out_and_said(data, tmp_path):
    res,_ = search(data, tmp_path, ['herding', 'dm', 'mtt'], minutes=.4)
    assert res.left_out and all('needs about' in v for v in res.left_out.values())
    assert not {r['method'] for r in res.rows} & set(res.left_out)
    page = (tmp_path/'report.html').read_text()
    assert all(f'{k}: {v}' in page for k,v in res.left_out.items())

def test_a_method_that_fails_is_said_and_the_others_go_on(data, tmp_path):
    @method('broken')
    def make(data, ipc, seed): raise ValueError('no such thing')
    try: res,_ = search(data, tmp_path, ['broken', 'herding'])
    finally: del METHODS['broken']
    assert res.left_out=={'broken': 'no such thing'} and 'herding' in {r['method'] for r in res.rows}

def test_the_folder_trains_what_the_report_says(data, done):
    res,path = done
    syn = Distilled.load(path/'best'/'distilled.safetensors')
    file,recipe = path/'best'/'labels.safetensors',recipe_in(syn)
    if file.exists(): e = evaluate_labels(syn, Labels.load(file), data, PLAN.student, 3, recipe, show=False)
    else: e = evaluate(syn, data, PLAN.student, 3, recipe)
    used = 'best' if worth_it(res.best['method'], res.tested) else 'instead'
    assert abs(e.mean-mean_ci(res.tested[used])[0]) < .1
    found = read_json(path/'auto.json')
    assert found['verdict']==res.verdict and res.verdict.split(':')[0] in (path/'report.html').read_text()

def test_other_settings_in_the_same_folder_are_refused(data, done):
    _,path = done
    with pytest.raises(ValueError, match='ipc'): search(data, path, ipc=3)
    with pytest.raises(ValueError, match='labels'): search(data, path, labels='full')

def test_names_are_escaped_in_the_page(data, tmp_path):
    odd = ImageData(data.train, data.test, ['<script>alert(1)</script>', *data.classes[1:]], data.norm, '<b>mine</b>', data.device)
    search(odd, tmp_path)
    page = (tmp_path/'report.html').read_text()
    assert '<script>' not in page and '<b>mine' not in page and '&lt;b&gt;mine' in page

@pytest.mark.parametrize('best,random,instead,word', [
    ([.64, .66, .63], [.60, .61, .59], [.60, .61, .59], 'It pays: +4'), ([.60, .61, .59], [.64, .66, .63], [.64, .66, .63], 'does not pay here: -4'),
    ([.59, .62, .61], [.60, .61, .59], [.60, .61, .59], 'do not resolve'), ([.64, .66, .63], [.60, .61, .59], [.70, .71, .69], 'does not pay here: -5')])
def test_verdicts(best, random, instead, word):
    t = dict(best=best, random=random, instead=instead, full=[.8, .81])
    assert word in verdict_of('nrr-dd', '4-byte labels', 'full soft labels', t, 100, 'x')
    assert worth_it('nrr-dd', t)==('It pays' in word) and not worth_it(RANDOM, t)

@pytest.mark.parametrize('wrong,match', [(dict(methods=['nope']), 'nope'), (dict(labels='tiny'), 'tiny'), (dict(minutes=0), 'minutes'), (dict(ipc=0), 'ipc'),
                                         (dict(minutes=.001), 'too few'), (dict(plan=3), 'plan')])
def test_wrong_settings_are_refused_before_anything_is_made(data, tmp_path, wrong, match):
    kwargs = dict(ipc=2, minutes=5, flip=False, plan=PLAN, say=lambda o: None, methods=['herding'], path=tmp_path/'x') | wrong
    with pytest.raises(ValueError, match=match): auto(data, **kwargs)
    assert not (tmp_path/'x').exists()

# ---- from a shell
def messy_folder(path, data, classes=4, n=40):
    "Digits as PNG without test images, with a broken file, a picture that is there twice, and a text file"
    from torchvision.transforms.functional import to_pil_image
    p,y = data.pixels('train'),data.y('train')
    for c in range(classes):
        (path/f'digit {c}').mkdir(parents=True)
        for i,o in enumerate(p[y==c][:n]): to_pil_image(o).save(path/f'digit {c}'/f'{i}.png')
    whole = (path/'digit 0'/'0.png').read_bytes()
    (path/'digit 0'/'again.png').write_bytes(whole)
    (path/'digit 1'/'broken.png').write_bytes(whole[:60])
    (path/'notes.txt').write_text('digits')
    return path

def shell(*args, cwd):
    "A command in a process of its own"
    return subprocess.run([sys.executable, '-m', 'edf_nrr.cli', *map(str, args)], capture_output=True, text=True, cwd=cwd)

def test_a_folder_goes_through(data, tmp_path):
    messy_folder(tmp_path/'photos', data)
    args = 'auto', 'photos', '--ipc', 1, '--minutes', 2, '--methods', 'herding', '--no-flip'
    refused = shell(*args, cwd=tmp_path)
    assert refused.returncode==1 and 'broken.png' in refused.stderr and 'Traceback' not in refused.stderr
    planned = shell(*args, '--skip-bad', '--dry-run', cwd=tmp_path)
    assert planned.returncode==0 and 'everything:' in planned.stdout and not (tmp_path/'runs').exists()
    assert '161 training images of 4 classes' in planned.stdout and 'again.png' in planned.stdout
    done = shell(*args, '--skip-bad', cwd=tmp_path)
    assert done.returncode==0, done.stderr
    res = read_json(tmp_path/'runs/auto/photos/auto.json')
    assert res['verdict'] in done.stdout and 'report.html' in done.stdout
    assert sorted(o.name for o in (tmp_path/'runs/auto/photos/best').iterdir())[:2]==['distilled.safetensors', 'images']
    assert len(Distilled.load(tmp_path/'runs/auto/photos/best/distilled.safetensors'))==4
    judged = shell('evaluate', 'runs/auto/photos/best/distilled.safetensors', '--seeds', 2, '--student-epochs', 3, '--no-full', cwd=tmp_path)
    assert judged.returncode==0 and 'random real' in judged.stdout, judged.stderr

# ---- plans
WORK = Work(1000, 200, 300, 10, 3, 10)

def test_more_minutes_never_choose_a_smaller_plan():
    keys = speeds_of(PLAN, Work(10, 10, 10, 10, 1, 1))
    def speeds(p, o, device): return dict.fromkeys(keys, 1e-6*p.size**2*int(p.student.rpartition('_w')[2]))
    rungs = ladder(128, 1000)
    chosen = [rungs.index(choose_plan(rungs, WORK, ['herding', 'nrr-dd'], m, speeds=speeds).plan) for m in (.01, 1, 10, 100, 1000, 1e5)]
    assert chosen==sorted(chosen) and chosen[0]==0 and chosen[-1]==len(rungs)-1

def test_every_registered_method_has_an_estimate():
    speeds = dict.fromkeys(speeds_of(PLAN, WORK), 1e-5)
    e = estimate(PLAN, WORK, methods_to_try(), speeds)
    assert all(0<v<1e5 for v in e.make.values()) and e.least()<=e.whole()

def test_memory_grows_with_images_and_networks():
    small,wide = ladder(32, 1000)[0],ladder(128, 1000)[-1]
    assert peak_bytes(WORK, small)<peak_bytes(WORK, wide)
    assert peak_bytes(dataclasses.replace(WORK, n_train=10**6), small)>=peak_bytes(WORK, small)+2*(10**6-1000)*3*16*16

def test_the_result_is_json(done):
    res,_ = done
    assert json.loads(json.dumps(dataclasses.asdict(res)))==dataclasses.asdict(res)
