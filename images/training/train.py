"""What a training container runs, by itself or under SageMaker's training toolkit, which says by a variable where its folders are."""

from __future__ import annotations

import os
import sys

from tickless.learn.training_job import main

if __name__ == "__main__":
    # SageMaker's further words are the hyperparameters, which lie in a file, too.
    sys.exit(main(["--root", os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"), *sys.argv[1:]]))
