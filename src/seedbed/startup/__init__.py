"""What makes a command start and end quickly. SEEDBED_PLAIN=1 turns all of it off."""

import os

PLAIN = os.environ.get("SEEDBED_PLAIN") == "1"
