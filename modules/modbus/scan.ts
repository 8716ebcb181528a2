// Searches lines for Modbus devices. Only functions that read are used: 1 to 4 and 43/14.

import { errorText, GatewayError, isGatewayError, type ScanContext, throwIfAborted } from '#sdk';
import { type Exchange, isPresent, PRESENCE_FUNCTIONS, readsPerDevice, scanDevice } from './scan-device.ts';
import { lentLine, type LinePlan, linePlans, ownLine, PORT_FAULTS, type ScanLine } from './scan-line.ts';
import type { ScanOptions } from './scan-options.ts';
import { ScanProgress } from './scan-progress.ts';
import { BROADCAST_UNIT } from './pdu.ts';

/**
 * What cannot be opened is told and left out.
 * @throws GatewayError GW_ABORTED; where nothing at all could be opened: GW_CONNECT, GW_SERIAL_MISSING, GW_SERIAL_BUSY,
 * GW_SERIAL_DENIED.
 */
export async function scanModbus(options: ScanOptions, context: ScanContext): Promise<void> {
  const plans = linePlans(options);
  const steps = plans.length * options.unit_ids.length;
  const stepMs = PRESENCE_FUNCTIONS.length * options.timeout_ms;
  const { least, most } = readsPerDevice(options);
  const reads = least === most ? `${least} reads` : `${least} reads to, where addresses are missing, ${most}`;
  context.report({
    kind: 'estimate',
    longestMs: steps * stepMs,
    text: `${options.unit_ids.length} unit ids on ${plans.length} ${plans.length === 1 ? 'line' : 'settings of lines'}; each device that answers adds about ${reads}.`,
  });
  const progress = new ScanProgress(context, steps, stepMs);
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
  progress: ScanProgress,
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
  progress: ScanProgress,
): Promise<void> {
  const exchange: Exchange = (request) => progress.timed(() => line.exchange(unitId, request));
  if (!(await isPresent(exchange))) return;
  const finding = await scanDevice({
    line,
    unitId,
    exchange,
    options,
    signal: context.signal,
    profiles: context.profiles(),
    onProgress: (device) => {
      const percent = Math.floor(100 * device.doneShare);
      progress.tell(`${line.text}, unit ${unitId} answers, ${percent} % looked at: ${device.text}`, device);
    },
    onPartial: (partial) => context.report({ kind: 'partial', finding: partial }),
    onNote: (text) => context.report({ kind: 'note', text }),
  });
  context.report({ kind: 'found', finding });
}

/** Whether it leaves the other lines to be searched. */
function isLineFault(error: unknown): error is GatewayError {
  return isGatewayError(error) && (error.code === 'GW_CONNECT' || PORT_FAULTS.has(error.code));
}
