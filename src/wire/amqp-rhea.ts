// The parts of the `rhea` library that are used here and that its own types leave out or leave open.

import type { AmqpError } from './amqp-types.ts';

/** A performative or outcome: its fields stand in `value` in the order of the specification. */
export interface RheaComposite {
  value: unknown[];
  described(): unknown;
}

export interface RheaDelivery {
  readonly link: RheaLink;
  /** Of a session, counted from 0. */
  readonly id: number;
  readonly tag: Buffer;
  readonly format: number | null | undefined;
  settled: boolean;
  remote_settled: boolean;
  /** What the peer said of it: an outcome, or a state that is none. */
  readonly remote_state?: { readonly constructor: { readonly composite_type?: string } } | undefined;
  update(settled: boolean, state?: unknown): void;
}

interface RheaAttach {
  readonly name: string;
  readonly handle: number;
  readonly source?: (RheaComposite & { readonly address?: unknown; readonly filter?: unknown }) | null;
  readonly target?: (RheaComposite & { readonly address?: unknown }) | null;
  readonly snd_settle_mode?: number | null;
  readonly rcv_settle_mode?: number | null;
  readonly max_message_size?: unknown;
  readonly properties?: unknown;
  readonly desired_capabilities?: unknown;
}

export interface RheaLink {
  /** Of the peer's DETACH. */
  readonly error?: unknown;
  readonly name: string;
  readonly session: RheaSession;
  readonly connection: RheaConnection;
  credit: number;
  delivery_count: number;
  readonly local: {
    attach: { role: boolean; source?: unknown; target?: unknown; snd_settle_mode: number; rcv_settle_mode: number };
    readonly detach: RheaComposite;
  };
  readonly remote: { handle: number | undefined; attach: Partial<RheaAttach> };
  /** Frames of a delivery that is not complete. */
  _incomplete: { settled: boolean } | undefined;
  on(event: string, listener: (context: RheaContext) => void): void;
  is_receiver(): boolean;
  close(): void;
  flow(credit: number): void;
  send(payload: Uint8Array, tag: Uint8Array, format: number): RheaDelivery;
  set_drained(isDrained: boolean): void;
}

export interface RheaFrame {
  readonly performative: {
    readonly name?: string | null;
    readonly handle?: number | null;
    readonly delivery_id?: number | null;
    readonly more?: boolean | null;
    readonly first?: number | null;
    readonly last?: number | null;
    message_format?: number | null;
    state?: { readonly descriptor?: { readonly value?: unknown } } | null | undefined;
  };
  payload?: Uint8Array;
}

export interface RheaSession {
  /** Of the peer's END. */
  readonly error?: unknown;
  readonly connection: RheaConnection;
  readonly local: { readonly end: RheaComposite };
  readonly remote: { readonly handles: Record<number, RheaLink | undefined> };
  readonly outgoing: {
    readonly next_delivery_id: number;
    readonly next_pending_delivery: number;
    readonly pending_dispositions: readonly unknown[];
    /** Deliveries whose outcomes came and are not told yet. */
    readonly updated: readonly unknown[];
    available(): number;
  };
  readonly incoming: {
    next_transfer_id: number;
    next_delivery_id: number | undefined;
    readonly updated: readonly unknown[];
  };
  readonly links: Readonly<Record<string, RheaLink | undefined>>;
  on_attach(frame: RheaFrame): void;
  on_transfer(frame: RheaFrame): void;
  on_disposition(frame: RheaFrame): void;
  on_flow(frame: RheaFrame): void;
  on_detach(frame: RheaFrame): void;
  on_end(frame: RheaFrame): void;
  on(event: string, listener: (context: RheaContext) => void): void;
  begin(): void;
  open_sender(options: object): RheaLink;
  open_receiver(options: object): RheaLink;
  close(): void;
  /** Writes what waits of it; after every frame that it gets, and at the end of a turn in which something was sent on it. */
  _process(): void;
}

export interface RheaOpen {
  readonly hostname?: unknown;
  readonly container_id?: unknown;
  readonly properties?: unknown;
  max_frame_size?: number | null;
  channel_max?: number | null;
  idle_time_out?: number | null;
}

export interface RheaContext {
  readonly session: RheaSession;
  readonly sender?: RheaLink;
  readonly receiver?: RheaLink;
  readonly delivery: RheaDelivery;
  readonly message: unknown;
}

/** The client's half of SASL. */
export interface RheaSaslClient {
  on_sasl_mechanisms(frame: { readonly performative: { readonly sasl_server_mechanisms?: unknown } }): void;
  on_sasl_outcome(frame: { readonly performative: { readonly code?: number | null } }): void;
}

export interface RheaConnection {
  readonly local: { readonly open: RheaOpen; readonly close: RheaComposite };
  readonly remote: { readonly open?: RheaOpen };
  /** Of the peer's CLOSE. */
  readonly error?: unknown;
  readonly sasl_transport?: RheaSaslClient | undefined;
  connect(): void;
  /** Takes bytes of the peer. */
  input(bytes: Uint8Array): void;
  create_session(buffer: object): RheaSession;
  /** Without arguments an empty frame. */
  _write_frame(): void;
  on(event: string, listener: (context: RheaContext) => void): void;
  accept(socket: unknown): void;
  close(): void;
  is_open(): boolean;
  eof(): void;
  /** Asks for `_process` at the end of this turn. */
  _register(): void;
  /** Writes what waits: dispositions, flows, transfers. */
  _process(): void;
}

/** What a mechanism of SASL is for the library: `outcome` is set once it is over. */
export interface RheaMechanism {
  outcome: boolean | undefined;
  readonly username: string | undefined;
  start(response: Uint8Array | null | undefined, hostName: string | null | undefined): Promise<void> | void;
}

export interface RheaContainer {
  sasl_server_mechanisms: Readonly<Record<string, () => RheaMechanism>>;
  create_connection(options: object): RheaConnection;
  on(event: string, listener: () => void): void;
}

interface RheaReader {
  readonly remaining: () => number;
  read_n: (this: RheaReader, count: number) => unknown[];
  read_array_items: (this: RheaReader, count: number, type: { readonly width: number }) => unknown[];
}

/** What a disposition says of a delivery, as it is on the wire. */
interface RheaOutcome {
  readonly descriptor?: { readonly value?: unknown };
}

export interface RheaLibrary {
  create_container(options: object): RheaContainer;
  readonly message: {
    decode(bytes: Uint8Array): unknown;
    accepted(): RheaComposite;
    released(): RheaComposite;
    rejected(fields: object): RheaComposite;
    unwrap_outcome(outcome: RheaOutcome | null): unknown;
  };
  readonly types: {
    readonly Reader: { readonly prototype: RheaReader };
    described_nc(descriptor: unknown, value: unknown): unknown;
    wrap_ulong(value: number): unknown;
    wrap_int(value: number): unknown;
    wrap_list(values: readonly unknown[]): unknown;
    wrap_symbol(text: string): unknown;
    wrap_string(text: string): unknown;
    wrap_symbolic_map(map: object): unknown;
  };
}

/** Descriptors of delivery states (AMQP 1.0, 3.4), as numbers and as symbols. */
const OUTCOMES: ReadonlySet<unknown> = new Set([
  0x23,
  0x24,
  0x25,
  0x26,
  0x27,
  ...['received', 'accepted', 'rejected', 'released', 'modified'].map((name) => `amqp:${name}:list`),
]);

/** Descriptor of an error (AMQP 1.0, 2.8.14). */
const ERROR = 0x1d;

/** An error with symbols for the keys of its info, which clients in C# look for; the library's own has strings. */
export function typedError({ types }: RheaLibrary, { condition, description, info }: AmqpError): unknown {
  const entries = Object.entries(info ?? {}).map(([key, value]) => {
    return [key, typeof value === 'number' ? types.wrap_int(value) : value] as const;
  });
  return types.described_nc(
    types.wrap_ulong(ERROR),
    types.wrap_list([
      types.wrap_symbol(condition),
      description === undefined ? null : types.wrap_string(description),
      entries.length === 0 ? null : types.wrap_symbolic_map(Object.fromEntries(entries)),
    ]),
  );
}

const guarded = new WeakSet<object>();

/** Loads the library, with what peers could do by it bounded. */
export async function loadRhea(): Promise<RheaLibrary> {
  const { default: rhea } = await import('rhea');
  const library = rhea as unknown as RheaLibrary;
  if (!guarded.has(library)) {
    guarded.add(library);
    guardReader(library);
    silenceOutcomes(library);
  }
  return library;
}

/** The library writes a line to stderr, past the log, for each outcome that it does not know: as often as a peer likes. */
function silenceOutcomes({ message }: RheaLibrary): void {
  const unwrap = message.unwrap_outcome.bind(message);
  message.unwrap_outcome = (outcome) => (OUTCOMES.has(outcome?.descriptor?.value) ? unwrap(outcome) : outcome);
}

/**
 * Refuses counts of items that no frame can hold: values without bytes of their own, as in an array of nulls, would let a
 * frame of 20 bytes fill the memory.
 * @throws RangeError out of the library's reader, which ends the connection that sent it.
 */
function guardReader({ types }: RheaLibrary): void {
  const { prototype } = types.Reader;
  const { read_n: readMany, read_array_items: readItems } = prototype;
  function check(reader: RheaReader, count: number): void {
    if (count > reader.remaining()) throw new RangeError(`A list of ${count} items is longer than its frame.`);
  }
  prototype.read_n = function (count) {
    check(this, count);
    return readMany.call(this, count);
  };
  prototype.read_array_items = function (count, type) {
    check(this, count);
    return readItems.call(this, count, type);
  };
}
