// What a Shelly of generation 2 is asked by JSON-RPC on `ID/rpc`, and what it answers on `SRC/rpc`
// (https://shelly-api-docs.shelly.cloud/gen2/General/RPCProtocol). Notifications come elsewhere: their `dst` is `ID/events`.

import type { PointValue } from '#sdk';
import { jsonOf } from '../configured-dialect.ts';
import { quoted, type Publish, type Verdict, type WritePlan } from '../dialect.ts';
import { isObject, parseJsonText } from '../json-value.ts';
import { wrongValue } from './writable-value.ts';

export const CONFIRM_MS = 5000;
const WRITABLE = /^(switch|light|cover):(\d+)\.(output|brightness|pos|current_pos)$/;
const SETTERS = { switch: 'Switch.Set', light: 'Light.Set', cover: 'Cover.GoToPosition' } as const;
const READERS = { switch: 'Switch.GetStatus', light: 'Light.GetStatus', cover: 'Cover.GetStatus' } as const;
/**
 * Ids of requests for a status, which a response repeats: what is asked of one component has its name for an id, because the
 * response does not tell it; what is asked of all has this one. Writes have numbers.
 */
const WHOLE_STATUS = 'status';

/** Who asks, and of whom. */
interface Parties {
  readonly device: string;
  /** Below the device's own topics: nobody else's requests are answered there. */
  readonly requester: string;
}

interface Request {
  readonly id: number | string;
  readonly method: string;
  /** As JSON. */
  readonly params?: string;
}

export function isGen2Writable(point: string): boolean {
  return WRITABLE.test(point);
}

/** Asks for everything that the device knows of itself. */
export function wholeStatusRequest(parties: Parties): Publish {
  return request(parties, { id: WHOLE_STATUS, method: 'Shelly.GetStatus' });
}

/** What a response tells of components, by their names. */
interface Status {
  readonly components: Readonly<Record<string, unknown>>;
  readonly isWhole: boolean;
}

/** Undefined when the answer is none to a request for a status. */
export function statusIn(answer: string): Status | undefined {
  const document = parseJsonText(answer);
  if (!isObject(document)) return undefined;
  const { id, result } = document;
  if (typeof id !== 'string' || !isObject(result)) return undefined;
  const isWhole = id === WHOLE_STATUS;
  return { components: isWhole ? result : { [id]: result }, isWhole };
}

/**
 * Sets, and reads back: a notification comes on a change only, and the response to most setters is `null`.
 * @throws GatewayError GW_WRITE_REFUSED for the value.
 */
export function planGen2(
  { device, point, value }: { readonly device: string; readonly point: string; readonly value: PointValue },
  { id, requester }: { readonly id: number; readonly requester: string },
): WritePlan | undefined {
  const [, component, index, name] = WRITABLE.exec(point) ?? [];
  if (component !== 'switch' && component !== 'light' && component !== 'cover') return undefined;
  const field = fieldOf(component, name ?? '', value);
  if (field === undefined)
    throw wrongValue(device, point, name === 'output' ? 'true or false' : 'a number from 0 to 100');
  const parties = { device, requester };
  const set = { id, method: SETTERS[component], params: `{"id":${index},"${field}":${jsonOf(value)}}` };
  const read = { id: `${component}:${index}`, method: READERS[component], params: `{"id":${index}}` };
  return {
    publish: [request(parties, set), request(parties, read)],
    confirmedBy: 'reading',
    judge: (answer) => judgeAnswer(answer, id, value),
    // A light tells it during a transition only, a shutter while it runs.
    goal: component === 'cover' ? `cover:${index}.target_pos` : `${component}:${index}.transition.target.${name}`,
    timeoutMs: CONFIRM_MS,
  };
}

function request({ device, requester }: Parties, { id, method, params }: Request): Publish {
  const head = `"id":${JSON.stringify(id)},"src":"${device}/${requester}","method":"${method}"`;
  const payload = params === undefined ? `{${head}}` : `{${head},"params":${params}}`;
  return { topic: `${device}/rpc`, payload: Buffer.from(payload) };
}

const NOTHING_TOLD: Verdict = { value: undefined };

/** `{"id":7,"error":{"code":-103,"message":"…"}}`, or a `result`, which tells nothing but what a switch was before. */
function judgeAnswer(answer: string, id: number, wanted: PointValue): Verdict {
  const document = parseJsonText(answer);
  if (!isObject(document) || document['id'] !== id) return NOTHING_TOLD;
  const { error, result } = document;
  if (isObject(error)) {
    const { code, message } = error;
    const reason = typeof code === 'number' ? `error_${code}` : 'refused';
    return { reason, said: quoted(typeof message === 'string' ? message : answer) };
  }
  // What it was told already it need not tell again.
  return isObject(result) && result['was_on'] === wanted ? { value: wanted } : 'accepted';
}

/** The parameter of the setter; undefined when the value is none for it. */
function fieldOf(component: keyof typeof SETTERS, name: string, value: PointValue): string | undefined {
  if (name === 'output') return typeof value === 'boolean' ? 'on' : undefined;
  if (typeof value !== 'number' || value < 0 || value > 100) return undefined;
  return component === 'cover' ? 'pos' : 'brightness';
}
