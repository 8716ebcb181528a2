// How a command ended, in the words of its answer.

import type { WriteResult } from '../core/adapter.ts';
import type { CommandAnswer, CommandStatus, DeviceCommand } from '../core/command.ts';
import type { DeviceId } from '../core/device.ts';
import { GatewayError, isGatewayError } from '../core/errors.ts';
import { qualityText, type JsonValue, type PointValue } from '../core/reading.ts';
import { encodeValue } from '../pipeline/encode-json.ts';

/** What was written before a failure is told with it. */
export interface Progress {
  readonly written: Map<string, WriteResult>;
  payload?: unknown;
}

/** Of a command that was begun when the gateway ended. */
export const UNKNOWN: CommandAnswer = {
  status: 500,
  code: 'GW_COMMAND_UNKNOWN',
  reason:
    'The gateway ended while it carried this command out, and does not know whether the device did it. Read the device, then send another command with another id.',
};

/** The command may come again with the same id. */
export function isNotTaken(status: CommandStatus): boolean {
  return status === 429 || status === 503;
}

/** Answered for good though it was never begun: past its deadline, or its device was away. */
export function isOverFor(status: CommandStatus): boolean {
  return status === 408 || status === 504;
}

/** What a write gave, whoever asked for it: a device that confirms without telling its value confirms the one written. */
export function outcomeOf(result: WriteResult, written: PointValue): WriteResult {
  const isComplete = result.quality.level !== 'good' || result.readBack !== undefined;
  return isComplete ? result : { ...result, readBack: written };
}

/** What a failure of a command that was begun means: where nobody answered, the device may have done it all the same. */
export function failureOf(deviceId: DeviceId, error: unknown, isLate: boolean): unknown {
  const isAborted = isGatewayError(error, 'GW_ABORTED');
  if (isAborted && error.details['reason'] === 'not_sent') {
    return isLate ? new GatewayError('GW_COMMAND_EXPIRED', error.message, { cause: error }) : error;
  }
  const unsure = (code: 'GW_ABORTED' | 'GW_TIMEOUT', why: string): GatewayError =>
    new GatewayError(code, `${why} It may have done it all the same: read it before you try again.`, { cause: error });
  if (isLate) return unsure('GW_TIMEOUT', `"${deviceId}" did not answer in time.`);
  if (isGatewayError(error, 'GW_TIMEOUT')) return unsure('GW_TIMEOUT', error.message);
  if (!isAborted) return error;
  return unsure('GW_ABORTED', `The gateway stopped, or was configured anew, before "${deviceId}" had answered.`);
}

/** What of an answer shows how far a command came. */
export function progressOf({ written, payload }: Progress): Pick<CommandAnswer, 'values' | 'quality' | 'payload'> {
  const values: Record<string, JsonValue> = {};
  const quality: Record<string, string> = {};
  for (const [point, result] of written) {
    if (result.readBack !== undefined) values[point] = JSON.parse(encodeValue(result.readBack)) as JsonValue;
    if (result.quality.level !== 'good') quality[point] = qualityText(result.quality);
  }
  return {
    ...(written.size > 0 && { values }),
    ...(Object.keys(quality).length > 0 && { quality }),
    ...(payload !== undefined && { payload }),
  };
}

/** What was asked for, as JSON. */
export function requestText(command: DeviceCommand): string {
  if (command.kind === 'action') return JSON.stringify(command.payload ?? null);
  const members = Object.entries(command.values).map(
    ([name, value]) => `${JSON.stringify(name)}:${encodeValue(value)}`,
  );
  return `{${members.join(',')}}`;
}
