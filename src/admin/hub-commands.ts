// `fieldpost hub …`: identities, twins, methods, commands and events of the local hub, for people without any SDK.

import type { ParseArgsConfig } from 'node:util';
import { EXIT_CODES } from '../core/errors.ts';
import type { CommandRequest, EventView, HubAdmin, IdentityChange } from '../core/hub/admin.ts';
import type { AuthenticationInput, DeviceIdentity, IdentityRef, ModuleIdentity } from '../core/hub/identity.ts';
import { parseCommand, usageError, wholeNumber, type CommandOutput } from './command.ts';
import { renderTable } from './table.ts';

export const HUB_USAGE = `Usage: fieldpost hub COMMAND
  connection-string [--policy NAME | --device ID | --module ID/MODULE | --events [--policy NAME] [--plain]]
      What a client needs to connect. Default: of the policy iothubowner; of the events with the policy service.
  identity create ID[/MODULE] [--disabled] [--edge] [--scope SCOPE] [CREDENTIALS]
  identity update ID[/MODULE] [--enabled | --disabled] [--reason TEXT] [--scope SCOPE] [CREDENTIALS]
      CREDENTIALS: [--primary-key KEY] [--secondary-key KEY] | --thumbprint HEX [--secondary-thumbprint HEX] | --ca
  identity list [--modules-of ID] [--json]
  identity show | delete ID[/MODULE]
  identity regenerate-keys ID[/MODULE] [--key primary|secondary|both]
  twin show ID[/MODULE]
  twin update ID[/MODULE] [--desired JSON] [--tags JSON]
      Merges; null takes a member away.
  invoke-method ID[/MODULE] NAME [PAYLOAD] [--timeout SECS] [--connect-timeout SECS]
      PAYLOAD is JSON.
  send-c2d ID TEXT [--property NAME=VALUE]... [--message-id TEXT] [--correlation-id TEXT] [--content-type TEXT]
      [--content-encoding TEXT] [--ack none|positive|negative|full] [--expires-in SECS]
  monitor-events [--device ID] [--from earliest|latest] [--count N] [--json]
      Prints what devices send until Ctrl+C; the earliest first, whatever their partition.
  run --in-memory [--address ADDRESS] [--host-name NAME]
      A hub that keeps nothing, for tests: identities, twins and events are gone when it ends.
All but run ask the gateway that runs on --data DIR.`;

export interface HubCommandPorts extends CommandOutput {
  readonly hub: HubAdmin;
  /** Ends `monitor-events`. */
  readonly signal: AbortSignal;
}

type Verb = (args: readonly string[], ports: HubCommandPorts) => Promise<void>;

const VERBS: Readonly<Record<string, Verb>> = {
  'connection-string': connectionString,
  'identity create': (args, ports) => writeIdentity(args, ports, 'createIdentity'),
  'identity update': (args, ports) => writeIdentity(args, ports, 'updateIdentity'),
  'identity list': listIdentities,
  'identity show': async (args, { hub, out }) => out(json(await hub.identity(onlyIdentity(args)))),
  'identity delete': async (args, { hub }) => void (await hub.deleteIdentity(onlyIdentity(args))),
  'identity regenerate-keys': regenerateKeys,
  'twin show': async (args, { hub, out }) => out(json(await hub.twin(onlyIdentity(args)))),
  'twin update': updateTwin,
  'invoke-method': invokeMethod,
  'send-c2d': sendCommand,
  'monitor-events': monitorEvents,
};

/** Returns the exit code. @throws GatewayError GW_USAGE, GW_NOT_RUNNING, GW_IOTHUB. */
export async function runHubCommand(args: readonly string[], ports: HubCommandPorts): Promise<number> {
  const [first = '', second = ''] = args;
  const name = [`${first} ${second}`, first].find((candidate) => Object.hasOwn(VERBS, candidate));
  const verb = name === undefined ? undefined : VERBS[name];
  if (name === undefined || verb === undefined) throw usageError(`"${first}" is not a command of the hub`, HUB_USAGE);
  await verb(args.slice(name.split(' ').length), ports);
  return EXIT_CODES.ok;
}

function parse<Options extends NonNullable<ParseArgsConfig['options']>>(args: readonly string[], options: Options) {
  return parseCommand(args, { allowPositionals: true, options }, HUB_USAGE);
}

/** `ID` or `ID/MODULE`. @throws GatewayError GW_USAGE. */
function identityOf(text: string | undefined): IdentityRef {
  const [deviceId = '', moduleId, ...more] = (text ?? '').split('/');
  if (deviceId === '' || moduleId === '' || more.length > 0)
    throw usageError('Give a device as ID, or a module as ID/MODULE', HUB_USAGE);
  return moduleId === undefined ? { deviceId } : { deviceId, moduleId };
}

function onlyIdentity(args: readonly string[]): IdentityRef {
  const [text, ...more] = parse(args, {}).positionals;
  noMore(more);
  return identityOf(text);
}

function noMore(rest: readonly string[]): void {
  if (rest.length > 0) throw usageError(`"${rest[0]}" is one argument too many`, HUB_USAGE);
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw usageError(`${what} is not JSON; a text needs quotes: '"on"'`, HUB_USAGE);
  }
}

async function connectionString(args: readonly string[], { hub, out }: HubCommandPorts): Promise<void> {
  const { values, positionals } = parse(args, {
    policy: { type: 'string' },
    device: { type: 'string' },
    module: { type: 'string' },
    events: { type: 'boolean', default: false },
    plain: { type: 'boolean', default: false },
  });
  noMore(positionals);
  const { policy, device, module, events, plain } = values;
  const named = [device ?? module, events ? 'events' : undefined].filter((one) => one !== undefined);
  if (named.length > 1 || (device !== undefined && module !== undefined)) {
    throw usageError('Give one of --device, --module and --events', HUB_USAGE);
  }
  if (plain && !events) throw usageError('--plain goes with --events', HUB_USAGE);
  if (module !== undefined && !module.includes('/')) throw usageError('--module takes ID/MODULE', HUB_USAGE);
  const { text } = await hub.connectionString(
    events
      ? { of: 'events', policy: policy ?? 'service', isPlaintext: plain }
      : named.length === 0
        ? { of: 'policy', policy: policy ?? 'iothubowner' }
        : { of: 'identity', ...identityOf(device ?? module) },
  );
  await out(`${text}\n`);
}

async function writeIdentity(
  args: readonly string[],
  { hub, out }: HubCommandPorts,
  call: 'createIdentity' | 'updateIdentity',
): Promise<void> {
  const { values, positionals } = parse(args, {
    enabled: { type: 'boolean', default: false },
    disabled: { type: 'boolean', default: false },
    reason: { type: 'string' },
    edge: { type: 'boolean', default: false },
    scope: { type: 'string' },
    'primary-key': { type: 'string' },
    'secondary-key': { type: 'string' },
    thumbprint: { type: 'string' },
    'secondary-thumbprint': { type: 'string' },
    ca: { type: 'boolean', default: false },
  });
  const [text, ...more] = positionals;
  noMore(more);
  const { enabled, disabled, reason, edge, scope } = values;
  if (enabled && disabled) throw usageError('Give one of --enabled and --disabled', HUB_USAGE);
  const status = disabled ? 'disabled' : enabled ? 'enabled' : undefined;
  const authentication = authenticationOf(values);
  const change: IdentityChange = {
    ...identityOf(text),
    ...(status !== undefined && { status }),
    ...(reason !== undefined && { statusReason: reason }),
    ...(edge && { capabilities: { iotEdge: true } }),
    ...(scope !== undefined && { deviceScope: scope }),
    ...(authentication !== undefined && { authentication }),
  };
  await out(json(await hub[call](change)));
}

interface CredentialOptions {
  readonly 'primary-key'?: string | undefined;
  readonly 'secondary-key'?: string | undefined;
  readonly thumbprint?: string | undefined;
  readonly 'secondary-thumbprint'?: string | undefined;
  readonly ca: boolean;
}

function authenticationOf(values: CredentialOptions): AuthenticationInput | undefined {
  const { 'primary-key': primaryKey, 'secondary-key': secondaryKey, thumbprint, ca } = values;
  const secondThumbprint = values['secondary-thumbprint'];
  const isSas = primaryKey !== undefined || secondaryKey !== undefined;
  const isX509 = thumbprint !== undefined || secondThumbprint !== undefined;
  if (Number(isSas) + Number(isX509) + Number(ca) > 1) {
    throw usageError('Give keys, or thumbprints, or --ca', HUB_USAGE);
  }
  if (ca) return { type: 'certificateAuthority' };
  if (isX509) {
    const x509Thumbprint = {
      ...(thumbprint !== undefined && { primaryThumbprint: thumbprint }),
      ...(secondThumbprint !== undefined && { secondaryThumbprint: secondThumbprint }),
    };
    return { type: 'selfSigned', x509Thumbprint };
  }
  if (!isSas) return undefined;
  const symmetricKey = {
    ...(primaryKey !== undefined && { primaryKey }),
    ...(secondaryKey !== undefined && { secondaryKey }),
  };
  return { type: 'sas', symmetricKey };
}

const PAGE = 1000;

/** Keys are not listed; `show` has them. */
async function listIdentities(args: readonly string[], { hub, out }: HubCommandPorts): Promise<void> {
  const { values, positionals } = parse(args, {
    'modules-of': { type: 'string' },
    json: { type: 'boolean', default: false },
  });
  noMore(positionals);
  const deviceId = values['modules-of'];
  if (deviceId !== undefined) {
    await printIdentities(await hub.modules({ deviceId }), values.json, out);
    return;
  }
  let afterId: string | undefined;
  for (;;) {
    const page = await hub.identities({ limit: PAGE, ...(afterId !== undefined && { afterId }) });
    if (page.length > 0 || afterId === undefined) await printIdentities(page, values.json, out);
    afterId = page.at(-1)?.deviceId;
    if (page.length < PAGE) return;
  }
}

async function printIdentities(
  identities: readonly (DeviceIdentity | ModuleIdentity)[],
  asJson: boolean,
  out: HubCommandPorts['out'],
): Promise<void> {
  if (asJson) {
    const lines = identities.map(({ authentication, ...rest }) =>
      JSON.stringify({ ...rest, authentication: { type: authentication.type } }),
    );
    await out(lines.map((line) => `${line}\n`).join(''));
    return;
  }
  const columns = ['identity', 'status', 'credentials', 'connection', 'last activity', 'commands'];
  const rows = identities.map((one) => [
    'moduleId' in one ? `${one.deviceId}/${one.moduleId}` : one.deviceId,
    'status' in one ? one.status : '',
    'isGatewayDevice' in one ? 'gateway' : one.authentication.type,
    one.connectionState,
    one.lastActivityTime.startsWith('0001') ? 'never' : one.lastActivityTime,
    String(one.cloudToDeviceMessageCount),
  ]);
  await out(
    renderTable(
      columns.map((title) => ({ title })),
      rows,
    ),
  );
}

async function regenerateKeys(args: readonly string[], { hub, out }: HubCommandPorts): Promise<void> {
  const { values, positionals } = parse(args, { key: { type: 'string', default: 'both' } });
  const which = { primary: 'primaryKey', secondary: 'secondaryKey', both: 'both' } as const;
  const { key } = values;
  if (!Object.hasOwn(which, key)) throw usageError('--key takes primary, secondary or both', HUB_USAGE);
  const [text, ...more] = positionals;
  noMore(more);
  await out(json(await hub.regenerateKeys({ ...identityOf(text), which: which[key as keyof typeof which] })));
}

async function updateTwin(args: readonly string[], { hub, out }: HubCommandPorts): Promise<void> {
  const { values, positionals } = parse(args, { desired: { type: 'string' }, tags: { type: 'string' } });
  const [text, ...more] = positionals;
  noMore(more);
  const { desired, tags } = values;
  if (desired === undefined && tags === undefined) throw usageError('Give --desired or --tags', HUB_USAGE);
  const twin = await hub.updateTwin({
    ...identityOf(text),
    ...(desired !== undefined && { desired: parseJson(desired, '--desired') }),
    ...(tags !== undefined && { tags: parseJson(tags, '--tags') }),
  });
  await out(json(twin));
}

async function invokeMethod(args: readonly string[], { hub, out }: HubCommandPorts): Promise<void> {
  const { values, positionals } = parse(args, {
    timeout: { type: 'string' },
    'connect-timeout': { type: 'string' },
  });
  const [text, name, payload, ...more] = positionals;
  noMore(more);
  if (name === undefined) throw usageError('Give an identity and the name of a method', HUB_USAGE);
  const bounds = { max: 300, usage: HUB_USAGE };
  const answer = await hub.invokeMethod({
    ...identityOf(text),
    name,
    ...(payload !== undefined && { payload: parseJson(payload, 'PAYLOAD') }),
    responseTimeoutSecs: wholeNumber(values.timeout, { name: 'timeout', min: 5, fallback: 30, ...bounds }),
    connectTimeoutSecs: wholeNumber(values['connect-timeout'], {
      name: 'connect-timeout',
      min: 0,
      fallback: 0,
      ...bounds,
    }),
  });
  await out(json(answer));
}

const ACKS = ['none', 'positive', 'negative', 'full'] as const;
const LONGEST_EXPIRY_SECS = 2 * 86_400;

async function sendCommand(args: readonly string[], { hub }: HubCommandPorts): Promise<void> {
  const { values, positionals } = parse(args, {
    property: { type: 'string', multiple: true, default: [] },
    'message-id': { type: 'string' },
    'correlation-id': { type: 'string' },
    'content-type': { type: 'string' },
    'content-encoding': { type: 'string' },
    ack: { type: 'string' },
    'expires-in': { type: 'string' },
  });
  const [deviceId, text, ...more] = positionals;
  noMore(more);
  if (deviceId === undefined || text === undefined) throw usageError('Give a device and a text', HUB_USAGE);
  const ack = ACKS.find((one) => one === values.ack);
  if (values.ack !== undefined && ack === undefined) throw usageError(`--ack takes ${ACKS.join(', ')}`, HUB_USAGE);
  const secs = values['expires-in'];
  const texts = {
    messageId: values['message-id'],
    correlationId: values['correlation-id'],
    contentType: values['content-type'],
    contentEncoding: values['content-encoding'],
  };
  const request: CommandRequest = {
    deviceId,
    text,
    properties: Object.fromEntries(values.property.map(propertyOf)),
    ...(ack !== undefined && { ack }),
    ...Object.fromEntries(Object.entries(texts).filter(([, value]) => value !== undefined)),
    ...(secs !== undefined && {
      expiresInSecs: wholeNumber(secs, {
        name: 'expires-in',
        min: 1,
        max: LONGEST_EXPIRY_SECS,
        fallback: 0,
        usage: HUB_USAGE,
      }),
    }),
  };
  await hub.sendCommand(request);
}

function propertyOf(text: string): readonly [name: string, value: string] {
  const equals = text.indexOf('=');
  if (equals < 1) throw usageError(`--property takes NAME=VALUE, not "${text}"`, HUB_USAGE);
  return [text.slice(0, equals), text.slice(equals + 1)];
}

async function monitorEvents(args: readonly string[], { hub, out, signal }: HubCommandPorts): Promise<void> {
  const { values, positionals } = parse(args, {
    device: { type: 'string' },
    from: { type: 'string', default: 'latest' },
    count: { type: 'string' },
    json: { type: 'boolean', default: false },
  });
  noMore(positionals);
  const { device, from } = values;
  if (from !== 'earliest' && from !== 'latest') throw usageError('--from takes earliest or latest', HUB_USAGE);
  const bounds = { name: 'count', min: 1, max: 1_000_000_000, fallback: Number.POSITIVE_INFINITY, usage: HUB_USAGE };
  let left = wholeNumber(values.count, bounds);
  const enough = new AbortController();
  const watch = {
    signal: AbortSignal.any([signal, enough.signal]),
    async report(event: EventView): Promise<void> {
      if (left === 0) return;
      left -= 1;
      await out(values.json ? `${JSON.stringify(event)}\n` : eventLine(event));
      if (left === 0) enough.abort();
    },
  };
  try {
    await hub.monitorEvents({ from, ...(device !== undefined && { deviceId: device }) }, watch);
  } catch (error) {
    if (!watch.signal.aborted) throw error;
  }
}

function eventLine(event: EventView): string {
  const { enqueuedTime, deviceId, moduleId, text, base64, properties } = event;
  const names = Object.entries(properties).map(([name, value]) => ` ${name}=${JSON.stringify(value)}`);
  return `${enqueuedTime}  ${moduleId === undefined ? deviceId : `${deviceId}/${moduleId}`}${names.join('')}  ${text ?? `base64:${base64}`}\n`;
}
