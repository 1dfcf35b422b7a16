"Counts of an attack by what was attacked, and its failures by kind, each with an example"
from collections import defaultdict
import pytest

class Score:
    "Of one attack on one thing"
    def __init__(self): self.tried,self.failed,self.kinds = 0,0,{}

    def add(self, problems, where='', n=1):
        "`n` attempts with pairs of kind and text that went wrong"
        self.tried += n
        self.failed += bool(problems)
        for kind,text in problems:
            old,example = self.kinds.get(kind, (0, f'{where}: {text}' if where else text))
            self.kinds[kind] = old+1,example

    def check(self):
        "Fail with all kinds of failure"
        lines = [f'{n} x {kind}: {example}' for kind,(n,example) in sorted(self.kinds.items(), key=lambda o: -o[1][0])]
        if lines: pytest.fail(f'{self.failed} of {self.tried} failed\n'+'\n'.join(lines), pytrace=False)

class Tally:
    "A `Score` for each attack and each thing that is attacked"
    def __init__(self): self.scores = defaultdict(lambda: defaultdict(Score))

    def of(self, attack, thing): return self.scores[attack][thing]

    def as_json(self):
        def total(scores, k): return sum(getattr(o, k) for o in scores.values())
        return {attack: dict(tried=total(v, 'tried'), failed=total(v, 'failed'), by={k: vars(o) for k,o in v.items()})
                for attack,v in self.scores.items()}

    def lines(self):
        for attack,v in self.as_json().items():
            by = ', '.join(f"{k} {o['tried']}"+(f" ({o['failed']} failed)" if o['failed'] else '') for k,o in v['by'].items())
            yield f"{v['tried']:>5} {attack}, {v['failed']} failed: {by}"
