// Bytes of one endpoint, by flow: what is counted is what messages have as they are sent (sealed, each resend again), bodies and
// properties, and the bodies of commands and answers; not what protocols, TLS and TCP add.

import type { Budget } from './budget.ts';

/** `live` and `history`: the lanes of messages going up. `commands` come down, `answers` to them go up. */
export const FLOWS = ['live', 'history', 'commands', 'answers'] as const;
export type Flow = (typeof FLOWS)[number];

export type FlowBytes = Readonly<Record<Flow, number>>;

export interface Meter {
  add(flow: Flow, bytes: number): void;
  totals(): FlowBytes;
}

/** @param budget takes part in what is counted. */
export function createMeter(budget?: Pick<Budget, 'spend'>): Meter {
  const totals: Record<Flow, number> = { live: 0, history: 0, commands: 0, answers: 0 };
  return {
    add(flow, bytes) {
      totals[flow] += bytes;
      budget?.spend(bytes);
    },
    totals: () => ({ ...totals }),
  };
}
