"Teachers, students and their evaluation: faults and promises"
import pytest, torch
from torch import nn
from edf_nrr.basics import changed, made_with, save_tensors
from edf_nrr.core import Distilled, Normalize
from edf_nrr.data import ImageData, Split
from edf_nrr.datasets import digits
from edf_nrr.models import create_model
from edf_nrr.teachers import load_teacher, save_teacher, teacher_note
from edf_nrr.augment import DSA
from edf_nrr.training import Evaluation, RDED_RECIPE, Recipe, accuracy, evaluate, hit_rates, joined
from edf_nrr.training import random_real, train_student, train_students, train_teacher, tune_lr

SHORT = Recipe(epochs=4, lr=.05, augment=DSA('crop_rotate'))

@pytest.fixture(scope='module')
def data(): return digits(device='cpu')

def test_students_do_not_touch_the_global_seed(data):
    real = random_real(data, 2)
    torch.manual_seed(3); a = torch.rand(2)
    torch.manual_seed(3); train_student(real, 'convnet_d1_w8', 0, SHORT); b = torch.rand(2)
    assert torch.equal(a, b)

def test_pairing(data):
    "Student s of one set starts from the weights, and sees the order and views, of student s of another"
    real = random_real(data, 2)
    copy = Distilled(real.images.clone(), real.labels, real.classes, real.norm)
    assert evaluate(real, data, 'convnet_d1_w8', 2, SHORT).last==evaluate(copy, data, 'convnet_d1_w8', 2, SHORT).last

def test_seeds_are_students(data):
    real = random_real(data, 2)
    five,two = evaluate(real, data, 'convnet_d1_w8', 4, SHORT, together=False),evaluate(real, data, 'convnet_d1_w8', [1, 3], SHORT, together=False)
    assert [five.last[i] for i in (1, 3)]==two.last
    with pytest.raises(ValueError, match='same seeds'): five.minus(two)

def test_last_is_the_last_epoch_and_best_is_not_it(data):
    real,seen = random_real(data, 5),{}
    e = evaluate(real, data, 'convnet_d1_w8', 1, changed(SHORT, epochs=6), checks=6)
    net = train_student(real, 'convnet_d1_w8', 0, changed(SHORT, epochs=6), lambda n,i: seen.__setitem__(i, accuracy(n, data)))
    assert e.last==[pytest.approx(accuracy(net, data))] and e.best==[pytest.approx(max(seen.values()))]

@pytest.mark.parametrize('arch', ['convnet_bn_d1_w8', 'resnet18_cifar'])
def test_networks_with_running_statistics(data, arch):
    assert 0<=evaluate(random_real(data, 1), data, arch, 1, changed(RDED_RECIPE, epochs=2)).mean<=1

def test_class_order_must_agree(data):
    real = random_real(data, 1)
    other = Distilled(real.images, real.labels, real.classes[::-1], real.norm)
    with pytest.raises(ValueError, match='order and names'): evaluate(other, data, 'convnet_d1_w8', 1, SHORT)
    assert 0<=evaluate(other, data.only(other.classes), 'convnet_d1_w8', 1, SHORT).mean<=1

def test_space_shape_and_classes_are_checked_before_the_first_student(data, monkeypatch):
    "Students of whitened images on plain ones fall far behind, and nothing else says so"
    import edf_nrr.training as t
    white,started = data.whiten(),[]
    monkeypatch.setattr(t, 'new_student', lambda *a, **k: started.append(1))
    for judge,syn,says in ((data, random_real(white, 1), ['ZCA (eps 0.1', 'normalised (mean 0.3', 'zca=True']), (white, random_real(data, 1), ['zca=False']),
                           (data.resized(6), random_real(data, 1), ['(1, 8, 8)', '(1, 6, 6)'])):
        for call in (lambda: evaluate(syn, judge, 'convnet_d1_w8', 1, SHORT), lambda: tune_lr(syn, judge, 'convnet_d1_w8', (.1,), SHORT)):
            with pytest.raises(ValueError) as e: call()
            assert all(o in str(e.value) for o in says), str(e.value)
    assert not started

def test_teachers_of_another_space_are_refused(data):
    from edf_nrr.baselines import rded,sre2l
    from edf_nrr.cidd import initialise
    from edf_nrr.dbr import relabel
    from edf_nrr.nrr import refine
    from edf_nrr.teachers import in_space
    other = ImageData(data.train, data.test, data.classes, Normalize([.5], [.25]))
    net = train_teacher(data, 'convnet_bn_d1_w8', 2, 1e-2, augment=None, show=False)
    syn = random_real(other, 1)
    for call in (lambda t: initialise(other, t, 1, require_correct=False, pool=20), lambda t: rded(other, t, 1, pool=20), lambda t: refine(syn, t, iterations=1, show=False),
                 lambda t: sre2l(other, t, 1, iterations=1, show=False), lambda t: relabel(syn, t, 'soft', 1, show=False)):
        with pytest.raises(ValueError, match='the teacher has another input space'): call(net)
        call(in_space(net, other.norm))

def test_teachers_in_files(data, tmp_path):
    def nameless(n, s, c): return create_model('convnet_bn_d2_w16', n, s, c)
    named,unnamed = [train_teacher(data, o, 1, 1e-2, show=False) for o in ('convnet_bn_d2_w16', nameless)]
    assert teacher_note(named)==dict(arch='convnet_bn_d2_w16', accuracy=named.accuracy, made_with=made_with())
    assert teacher_note(unnamed)==dict(accuracy=unnamed.accuracy, made_with=made_with())
    save_teacher(named, tmp_path/'t.safetensors')
    assert teacher_note(load_teacher(tmp_path/'t.safetensors'))==teacher_note(named)
    with pytest.raises(ValueError, match='model_names'): save_teacher(unnamed, tmp_path/'n.safetensors')
    save_tensors(tmp_path/'s.safetensors', dict(a=torch.zeros(1)), dict(what='a distilled set'))
    with pytest.raises(ValueError, match='a distilled set, not a teacher'): load_teacher(tmp_path/'s.safetensors')

def test_accuracy_leaves_every_mode(data):
    net = create_model('convnet_bn_d1_w8', 10, data.size, data.channels)
    net.features[1].eval()
    modes = [m.training for m in net.modules()]
    accuracy(net, data)
    assert modes==[m.training for m in net.modules()]

def test_tuning_never_sees_the_test_images(data, monkeypatch):
    import edf_nrr.training as t
    seen = []
    real_evaluate = t.evaluate
    monkeypatch.setattr(t, 'evaluate', lambda syn, d, *a, **k: seen.append(d) or real_evaluate(syn, d, *a, **k))
    tune_lr(random_real(data, 1), data, 'convnet_d1_w8', (.01, .1), SHORT, seeds=1)
    train = {o.numpy().tobytes() for o in data.train.raw()}
    assert len(seen)==2 and all(o.numpy().tobytes() in train for d in seen for o in d.test.raw())

def test_images_of_the_set_do_not_judge_its_learning_rate(data, monkeypatch):
    import edf_nrr.training as t
    seen = []
    real_evaluate = t.evaluate
    monkeypatch.setattr(t, 'evaluate', lambda syn, d, *a, **k: seen.append((syn, d)) or real_evaluate(syn, d, *a, **k))
    for space in (data, data.whiten()):
        syn = random_real(space, 30)
        own = {o.numpy().tobytes() for o in (syn.pixels()*255).round().to(torch.uint8)}
        held = space.validation(.1, seed=0).test
        among = sum(o.numpy().tobytes() in own for o in held.raw())
        assert among>5 # so the test can fail
        tune_lr(syn, space, 'convnet_d1_w8', (.01,), SHORT, seeds=1)
        judge = seen[-1][1].test
        assert len(judge)==len(held)-among and not any(o.numpy().tobytes() in own for o in judge.raw())

def test_joined_evaluations_are_those_of_their_parts(data):
    parts = [evaluate(random_real(data, 1, s), data, 'convnet_d1_w8', [s], SHORT) for s in (4, 2)]
    both = joined(parts)
    assert both.last==[p.last[0] for p in parts] and both.best==[p.best[0] for p in parts] and both.seeds==[4, 2]
    assert (both.about['sets'], parts[0].about['sets'])==(2, 1)

def test_hard_column(data):
    syn = random_real(data, 1, teachers=[train_teacher(data, 'convnet_bn_d2_w16', 2, show=False)])
    assert evaluate(syn, data, 'convnet_d1_w8', 1, SHORT).about['labels']=='soft'
    assert evaluate(syn, data, 'convnet_d1_w8', 1, changed(SHORT, hard=True)).about['labels']=='hard'

@pytest.mark.parametrize('kw,match', [(dict(epochs=0), 'above 0'), (dict(lr=-1.), 'above 0'), (dict(schedule='linear'), 'cosine'), (dict(optimiser='adam'), 'adamw')])
def test_recipe_refuses(kw, match):
    with pytest.raises(ValueError, match=match): Recipe(**kw)

def test_one_value_has_no_interval():
    e = Evaluation([.5], [.6], [0], {1: [.5]}, {})
    assert e.half_width!=e.half_width and 'nan' in repr(e)

# ---- layers that draw ----
def dropping(n, s, c): return nn.Sequential(nn.Flatten(), nn.Linear(c*s*s, 32), nn.Dropout(.5), nn.ReLU(), nn.Linear(32, n))
def weights(net): return torch.cat([p.detach().flatten() for p in net.parameters()])

def test_dropout_comes_from_the_student_seed(data):
    "Whatever ran before, and without moving the generator of others"
    real = random_real(data, 2)
    a = weights(train_student(real, dropping, 1, SHORT))
    torch.manual_seed(99)
    train_student(real, dropping, 0, SHORT)
    state = torch.get_rng_state()
    assert torch.equal(a, weights(train_student(real, dropping, 1, SHORT))) and torch.equal(state, torch.get_rng_state())

def test_dropout_of_a_teacher_comes_from_its_seed(data):
    def teacher(): return weights(train_teacher(data, dropping, 1, 1e-2, augment=None, show=False))
    torch.manual_seed(5)
    a,state = teacher(),torch.get_rng_state()
    torch.manual_seed(5)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(9)
    assert torch.equal(a, teacher())

def test_students_that_draw_are_trained_alone(data, monkeypatch):
    import edf_nrr.training as t
    real = random_real(data, 2)
    with pytest.raises(ValueError, match='draws random numbers.*together=False'): train_students(real, dropping, range(2), SHORT)
    monkeypatch.setattr(t, 'faster_together', lambda *a: True) # as on a GPU
    assert evaluate(real, data, dropping, 2, SHORT).last==evaluate(real, data, dropping, [0, 1], SHORT, together=False).last

# ---- test images ----
def test_test_images_are_decoded_once(data):
    "Also for several students and looks"
    class Source:
        shape,read = data.test.shape,0
        def __len__(self): return len(data.test)
        def batch(self, idx): Source.read += len(idx); return data.test.raw(idx)
    streamed = ImageData(data.train, Split(Source(), data.test.y), data.classes, data.norm)
    real = random_real(data, 2)
    a = evaluate(real, streamed, 'convnet_d1_w8', 2, SHORT, checks=2)
    assert Source.read==len(data.test) and a.curve==evaluate(real, data, 'convnet_d1_w8', 2, SHORT, checks=2).curve
    evaluate(real, streamed, 'convnet_d1_w8', 1, SHORT)
    assert Source.read==len(data.test)

def test_hits_of_several_networks_at_once(data):
    nets = [create_model('convnet_d1_w8', 10, data.size, data.channels, seed=s).eval() for s in range(3)]
    assert hit_rates(nets, data.batches('test', 100))==[accuracy(o, data) for o in nets]

def test_a_teacher_says_what_it_was_trained_with(data, tmp_path):
    net = train_teacher(data, 'convnet_bn_d1_w8', 2, 1e-2, show=False)
    save_teacher(net, tmp_path/'t.safetensors')
    assert net.about['made_with']['threads']==torch.get_num_threads()
    assert teacher_note(load_teacher(tmp_path/'t.safetensors'))['made_with']==made_with()
