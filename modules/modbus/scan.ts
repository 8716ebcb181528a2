// Searches lines for Modbus devices. Only functions that read are used: 1 to 4 and 43/14.

import { errorText, GatewayError, isGatewayError, type ScanContext, throwIfAborted } from '#sdk';
import { isPresent, leastReads, PRESENCE_FUNCTIONS, scanDevice } from './scan-device.ts';
import { lentLine, type LinePlan, linePlans, ownLine, PORT_FAULTS, type ScanLine } from './scan-line.ts';
import type { ScanOptions } from './scan-options.ts';
import { BROADCAST_UNIT } from './pdu.ts';

/** How often progress is told at most. */
const PROGRESS_MS = 500;

/** How much is done, against the longest that it can take: each unit id costs its timeouts when nobody answers. */
class Progress {
  readonly #context: ScanContext;
  readonly #stepMs: number;
  readonly #steps: number;
  #done = 0;
  #toldMs = Number.NEGATIVE_INFINITY;

  constructor(context: ScanContext, steps: number, stepMs: number) {
    this.#context = context;
    this.#steps = steps;
    this.#stepMs = stepMs;
  }

  step(count: number): void {
    this.#done = Math.min(this.#steps, this.#done + count);
  }

  tell(text: string): void {
    const nowMs = this.#context.clock.monotonicMs();
    if (nowMs - this.#toldMs < PROGRESS_MS) return;
    this.#toldMs = nowMs;
    const remainingMs = (this.#steps - this.#done) * this.#stepMs;
    this.#context.report({ kind: 'progress', doneShare: this.#done / this.#steps, remainingMs, text });
  }
}

/**
 * What cannot be opened is told and left out.
 * @throws GatewayError GW_ABORTED; where nothing at all could be opened: GW_CONNECT, GW_SERIAL_MISSING, GW_SERIAL_BUSY,
 * GW_SERIAL_DENIED.
 */
export async function scanModbus(options: ScanOptions, context: ScanContext): Promise<void> {
  const plans = linePlans(options);
  const steps = plans.length * options.unit_ids.length;
  const stepMs = PRESENCE_FUNCTIONS.length * options.timeout_ms;
  context.report({
    kind: 'estimate',
    longestMs: steps * stepMs,
    text: `${options.unit_ids.length} unit ids on ${plans.length} ${plans.length === 1 ? 'line' : 'settings of lines'}; each device that answers adds ${leastReads(options)} reads or, where addresses are missing, more.`,
  });
  const progress = new Progress(context, steps, stepMs);
  const closed = new Set<string>();
  let searched = 0;
  let unopened: GatewayError | undefined;
  for (const plan of plans) {
    throwIfAborted(context.signal);
    if (closed.has(plan.target)) {
      progress.step(options.unit_ids.length);
      continue;
    }
    const { isOver, fault } = await scanLine(plan, options, context, progress);
    if (isOver) closed.add(plan.target);
    if (fault === undefined) searched += 1;
    else unopened = fault;
  }
  if (searched > 0 || unopened === undefined) return;
  throw new GatewayError(unopened.code, 'Nothing was searched: no line could be opened.', { cause: unopened });
}

interface LineResult {
  /** Its other settings need not be tried: it is lent, absent or held by another program. */
  readonly isOver: boolean;
  /** Why nothing was searched. */
  readonly fault?: GatewayError;
}

async function scanLine(
  plan: LinePlan,
  options: ScanOptions,
  context: ScanContext,
  progress: Progress,
): Promise<LineResult> {
  const lent = await lentLine(plan.target, options, context);
  if (lent !== undefined) {
    const text = `${plan.target} is in use by this gateway: searched between its polls, with the settings it has.`;
    context.report({
      kind: 'note',
      text: 'path' in plan.transport ? `${text} Stop the adapter (enabled: false) to try others.` : text,
    });
  }
  const line = lent ?? ownLine(plan, options, context);
  let asked = 0;
  try {
    for (const unitId of options.unit_ids) {
      throwIfAborted(context.signal);
      progress.tell(`${line.text}, unit ${unitId}`);
      if (unitId !== BROADCAST_UNIT || line.hasUnitZero) await scanUnit(line, unitId, options, context, progress);
      asked += 1;
      progress.step(1);
    }
    const { strayBytes } = line;
    if (strayBytes > 0) {
      const why = 'other line settings or framing, noise, or somebody else who asks here';
      const text = `${line.text}: ${strayBytes} bytes came that were no answers: ${why}.`;
      context.report({ kind: 'note', text });
    }
    return { isOver: lent !== undefined };
  } catch (error) {
    if (!isLineFault(error)) throw error;
    context.report({ kind: 'note', text: `${line.text}: ${errorText(error)}` });
    progress.step(options.unit_ids.length - asked);
    return { isOver: PORT_FAULTS.has(error.code), ...(asked === 0 && { fault: error }) };
  } finally {
    await line.close();
  }
}

async function scanUnit(
  line: ScanLine,
  unitId: number,
  options: ScanOptions,
  context: ScanContext,
  progress: Progress,
): Promise<void> {
  if (!(await isPresent(line, unitId))) return;
  const finding = await scanDevice({
    line,
    unitId,
    options,
    signal: context.signal,
    profiles: context.profiles(),
    onStep: (text) => progress.tell(`${line.text}, unit ${unitId} answers: ${text}`),
    onNote: (text) => context.report({ kind: 'note', text }),
  });
  context.report({ kind: 'found', finding });
}

/** Whether it leaves the other lines to be searched. */
function isLineFault(error: unknown): error is GatewayError {
  return isGatewayError(error) && (error.code === 'GW_CONNECT' || PORT_FAULTS.has(error.code));
}
