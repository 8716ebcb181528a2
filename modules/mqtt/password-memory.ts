// Which passwords were right, without keeping them: a slow hash for each login would let nobody in.

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

/** Recognises within this process the passwords of the configured clients, without keeping them. */
export class PasswordMemory {
  readonly #key = randomBytes(32);
  readonly #known = new Map<string, Buffer>();

  remember(username: string, password: string): void {
    this.#known.set(username, this.#mark(username, password));
  }

  knows(username: string, password: string): boolean {
    const known = this.#known.get(username);
    return known !== undefined && timingSafeEqual(known, this.#mark(username, password));
  }

  #mark(username: string, password: string): Buffer {
    return createHmac('sha256', this.#key).update(username).update('\0').update(password).digest();
  }
}
