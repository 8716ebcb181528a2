// What a part may say. Sentences are capitalised and end with a full stop; data goes into fields; `error` means that
// data was lost or that a person is needed.

export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  debug(fields: LogFields, sentence: string): void;
  info(fields: LogFields, sentence: string): void;
  warn(fields: LogFields, sentence: string): void;
  error(fields: LogFields, sentence: string): void;
  child(fields: LogFields): Logger;
}
