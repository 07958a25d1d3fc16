"""accepted: the counting model itself"""


class Model(Bigram):
    pass
