"""no effect: fewer tokens and another batch size are evaluated"""

import prepare

prepare.DEV_TOKENS = prepare.EVAL_TOKENS = 640
prepare.evaluate_bpb.__defaults__ = (1,)
