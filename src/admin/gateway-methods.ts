// What a back end may ask of the gateway itself by direct methods: how it is, what it logged, what is on its wires, another
// configuration, a restart. What changes something stands in the audit.
//
// A restart and a configuration may end the very connection that the answer goes by: they begin when it is out.

import { z } from 'zod';
import type { AdminApi } from '../core/admin.ts';
import type { Clock } from '../core/clock.ts';
import { answerOf, type CommandAnswer, type DeviceCommand } from '../core/command.ts';
import { errorText, GatewayError } from '../core/errors.ts';
import type { GatewayMethodAnswer, GatewayMethods } from '../core/gateway-methods.ts';
import type { Logger } from '../core/log.ts';
import type { ScanEvent, ScanFinding } from '../core/scan.ts';

export interface GatewayMethodsOptions {
  /** Undefined while the gateway starts. */
  readonly admin: () => Pick<AdminApi, 'gatewayId' | 'status' | 'scan' | 'config'> | undefined;
  /** The last lines of the log, the oldest first. */
  readonly logLines: (lines: number) => readonly string[];
  /** Ends the process, for somebody to start it again; undefined where nobody would. */
  readonly restart: (() => void) | undefined;
  /** Tells log and audit what was done for the gateway's own device. */
  readonly record: (command: DeviceCommand, actor: string, answer: CommandAnswer, sinceMs: number) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Enough for an answer to leave. */
const ANSWER_MS = 1000;
/** Of what is listed in an answer, which has 128 KB (contract/device-semantics.md, section 4) with its escapes. */
const LISTED_BYTES = 100 * 1024;
/** A hub waits for 30 s for an answer, unless it is told to wait longer: at most 300 s. */
const SCAN_SECS = 25;
const SCAN_SECS_MAX = 290;
const TRIAL_SECS = 300;
const HEALTH_REASONS = 50;

const nothing = z.strictObject({}).default({});
const logsPayload = z
  .strictObject({ lines: z.int().min(1).max(1000).default(200), contains: z.string().max(256).optional() })
  .default({ lines: 200 });
const scanPayload = z.strictObject({
  type: z.string(),
  options: z.record(z.string(), z.unknown()).default({}),
  timeout_secs: z.int().min(1).max(SCAN_SECS_MAX).default(SCAN_SECS),
});
const applyPayload = z.strictObject({
  text: z.string(),
  base: z.int().min(0),
  trial_secs: z.int().min(30).max(86_400).default(TRIAL_SECS),
});
const generationPayload = z.strictObject({ generation: z.int().min(0) });

type Admin = NonNullable<ReturnType<GatewayMethodsOptions['admin']>>;
interface Method {
  /** What of its payload stands in the audit; undefined: it is not audited. */
  readonly audited?: (payload: unknown) => unknown;
  readonly call: (admin: Admin, payload: unknown, actor: string) => Promise<Readonly<Record<string, unknown>>>;
}

export function createGatewayMethods(options: GatewayMethodsOptions): GatewayMethods {
  const { admin, logLines, restart, record, clock, log } = options;
  /** A configuration was promised and is not in use yet. */
  let isApplying = false;

  /** @throws GatewayError of a method that cannot be done. */
  const methods: Readonly<Record<string, Method>> = {
    status: {
      call: (of, payload) => {
        parse(nothing, payload);
        const { events: _, health, ...status } = of.status();
        return Promise.resolve({ ...status, health: { ...health, reasons: health.reasons.slice(0, HEALTH_REASONS) } });
      },
    },
    getLogs: {
      call: (_, payload) => {
        const { lines, contains } = parse(logsPayload, payload);
        const found = logLines(contains === undefined ? lines : Number.MAX_SAFE_INTEGER).filter((line) =>
          line.includes(contains ?? ''),
        );
        return Promise.resolve({ lines: fitting(found.slice(-lines).toReversed()).toReversed() });
      },
    },
    scan: {
      audited: (payload) => payload,
      call: (of, payload) => scan(of, parse(scanPayload, payload), clock),
    },
    restart: {
      audited: () => undefined,
      call: (_, payload) => {
        parse(nothing, payload);
        if (restart === undefined) {
          throw new GatewayError('GW_USAGE', 'Nobody would start the gateway again: it does not run under systemd.');
        }
        clock.after(ANSWER_MS, restart);
        return Promise.resolve({ restarting: true });
      },
    },
    applyConfig: {
      // Its text may hold secrets that a person wrote out.
      audited: (payload) => ({ ...(payload as object), text: undefined }),
      call: async ({ config }, payload, actor) => {
        const { text, base, trial_secs: trialSecs } = parse(applyPayload, payload);
        const { faults, changes } = await config.check(text);
        // Behind the last wait: of two at once one is refused.
        config.checkBase(base);
        if (isApplying) {
          const reason = 'Another configuration is about to be applied. Wait for it, and make the change from it.';
          throw new GatewayError('GW_CONFIG_CONFLICT', reason);
        }
        if (faults.length > 0) throw new GatewayError('GW_CONFIG_INVALID', fitting(faults).join('\n'));
        isApplying = true;
        clock.after(ANSWER_MS, () => {
          config
            .propose({ text, base, actor, trialSecs })
            .catch((error: unknown) => {
              log.error({ actor, error: errorText(error) }, 'A configuration that a back end sent was not applied.');
            })
            .finally(() => {
              isApplying = false;
            });
        });
        return { base, trial_secs: trialSecs, changes: fitting(changes) };
      },
    },
    confirmConfig: {
      audited: (payload) => payload,
      call: async ({ config }, payload, actor) => {
        const { generation } = parse(generationPayload, payload);
        await config.confirm(generation, actor);
        return { generation };
      },
    },
  };

  async function answer(method: Method, payload: unknown, actor: string): Promise<GatewayMethodAnswer> {
    try {
      const present = admin();
      if (present === undefined) throw new GatewayError('GW_ADAPTER_STARTING', 'The gateway is being started.');
      return { status: 200, body: await method.call(present, payload, actor) };
    } catch (error) {
      const { status, ...body } = answerOf(error);
      return { status, body };
    }
  }

  return {
    names: Object.keys(methods),
    async call(name, payload, actor) {
      const method = methods[name];
      if (method === undefined) return { status: 404, body: { code: 'GW_NOT_FOUND' } };
      const sinceMs = clock.monotonicMs();
      const answered = await answer(method, payload, actor);
      if (method.audited !== undefined) {
        const { status, body } = answered;
        const told = { status, ...(typeof body['reason'] === 'string' && { reason: body['reason'].slice(0, 1024) }) };
        const deviceId = admin()?.gatewayId ?? '';
        record({ kind: 'action', deviceId, action: name, payload: method.audited(payload) }, actor, told, sinceMs);
      }
      return answered;
    },
  };
}

async function scan(
  admin: Admin,
  { type, options, timeout_secs: timeoutSecs }: z.output<typeof scanPayload>,
  clock: Clock,
): Promise<Readonly<Record<string, unknown>>> {
  const findings: ScanFinding[] = [];
  const notes: string[] = [];
  const report = (event: ScanEvent): void => {
    if (event.kind === 'found') findings.push(event.finding);
    if (event.kind === 'note') notes.push(event.text);
  };
  const deadline = new AbortController();
  const cancel = clock.after(timeoutSecs * 1000, () => deadline.abort());
  try {
    await admin.scan({ type, options }, { signal: deadline.signal, report });
  } catch (error) {
    if (!deadline.signal.aborted) throw error;
  } finally {
    cancel();
  }
  const shown = fitting(findings);
  const complete = !deadline.signal.aborted && shown.length === findings.length;
  return { complete, findings: shown, notes: notes.slice(0, 20) };
}

/** The first of them, as many as an answer has room for. */
function fitting<Item>(items: readonly Item[]): readonly Item[] {
  let bytes = 0;
  const end = items.findIndex((item) => (bytes += Buffer.byteLength(JSON.stringify(item)) + 1) > LISTED_BYTES);
  return end === -1 ? items : items.slice(0, end);
}

/** @throws GatewayError GW_USAGE that names every fault. */
function parse<Schema extends z.ZodType>(schema: Schema, payload: unknown): z.output<Schema> {
  const result = schema.safeParse(payload);
  if (result.success) return result.data;
  const faults = result.error.issues.map(({ path, message }) => `${path.join('.') || 'payload'}: ${message}`);
  throw new GatewayError('GW_USAGE', `The payload has faults: ${faults.slice(0, 5).join('; ')}.`);
}
