// Asking the broker again and again, but only while somebody looks.

import { useEffect, useRef, useState } from "../vendor/preact-hooks.js";

/**
 * What `ask()` resolves to, asked for every `ms` while the page is visible, at once when it is looked at again, and afresh when `key`
 * changes: `{value, error, askAgain(), put(value)}`. `value` is null until the first answer and stays while later ones fail. What is not
 * there (404) is not asked for again until `askAgain`.
 */
export function usePolled(ask, key, ms) {
  const [answer, setAnswer] = useState({ value: null, error: null });
  const [asked, setAsked] = useState(0);
  const latest = useRef(ask);
  latest.current = ask;
  useEffect(() => {
    let isGone = false;
    let isAsking = false;
    let timer = 0;
    const now = async () => {
      if (isAsking || document.hidden) return;
      isAsking = true;
      clearTimeout(timer);
      let isMissing = false;
      try {
        const value = await latest.current();
        if (!isGone) setAnswer({ value, error: null });
      } catch (error) {
        isMissing = error.status === 404;
        if (!isGone) setAnswer((before) => ({ ...before, error }));
      }
      isAsking = false;
      if (!isGone && !isMissing) timer = setTimeout(now, ms);
    };
    now();
    document.addEventListener("visibilitychange", now);
    return () => {
      isGone = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", now);
    };
  }, [asked, key, ms]);
  return { ...answer, askAgain: () => setAsked((count) => count + 1), put: (value) => setAnswer({ value, error: null }) };
}
