// The system's clock, of which a test may put the monotonic time forward.

import { SystemClock } from '../../src/platform/clock.ts';

export class AheadClock extends SystemClock {
  aheadMs = 0;

  override monotonicMs(): number {
    return super.monotonicMs() + this.aheadMs;
  }
}
