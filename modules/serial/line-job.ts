// A request on its way over a serial line.

import type { DeviceId, GatewayError } from '#sdk';
import type { FrameFault } from './framer.ts';
import type { AwaitedConfirmation } from './owed-answers.ts';

export interface LineJob {
  readonly deviceId: DeviceId;
  readonly bytes: Buffer;
  /** Whether a frame is the answer; undefined: nobody answers. */
  readonly accepts: ((frame: Buffer) => boolean) | undefined;
  /** Of a request: whether a frame makes sense as its answer, so that it is not that of a write which comes late. */
  readonly understands?: (frame: Buffer) => boolean;
  /** Of a request: those with the same would take its late answer for theirs. */
  readonly alike?: string | undefined;
  /** Of a write that is to be confirmed. */
  readonly confirmation?: AwaitedConfirmation | undefined;
  readonly timeoutMs: number;
  readonly priority: 'write' | 'read';
  /** Monotonic ms when it was due. */
  readonly dueMs: number;
  /** Told at the moment when the request goes out. */
  readonly onSent?: (nowMs: number) => void;
}

export interface WaitingJob extends LineJob {
  readonly resolve: (frame: Buffer) => void;
  readonly reject: (error: GatewayError) => void;
}

export interface CurrentJob extends WaitingJob {
  readonly cancelTimer: () => void;
  /** The fault of what came so far. */
  fault: FrameFault | undefined;
}

/** Writes before reads; among equals the one that was due first. */
export function goesBefore(left: LineJob, right: LineJob): boolean {
  if (left.priority !== right.priority) return left.priority === 'write';
  return left.dueMs < right.dueMs;
}
