//! [`gather!`](crate::gather!) and [`try_gather!`](crate::try_gather!): a few futures at once, in the task that awaits them.
//!
//! What must stay true: no future is polled after its end; each is dropped as soon as it has ended.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// Awaits several futures at once and gives a tuple of what they give. They run in this task, so they may borrow, and need
/// not be of one type. (Use [`gather`](crate::gather()) for a collection.)
///
/// ```
/// use velodrome::{gather, run, yield_now};
///
/// run(async {
///     let name = String::from("track");
///     let (length, shout) = gather!(async { name.len() }, async {
///         yield_now().await;
///         name.to_uppercase()
///     });
///     assert_eq!((length, shout.as_str()), (5, "TRACK"));
/// });
/// ```
#[macro_export]
macro_rules! gather {
    ($($future:expr),+ $(,)?) => {
        $crate::macros::Together::gather(($($future,)+)).await
    };
}

/// Awaits several futures at once, each of which gives a `Result`, and gives a tuple of what they give, or the first error; the
/// others are dropped then.
///
/// ```
/// use velodrome::{run, try_gather};
///
/// run(async {
///     let both = async { try_gather!(async { Ok(1) }, async { Ok::<_, &str>("two") }) };
///     assert_eq!(both.await, Ok((1, "two")));
///     let one = async { try_gather!(async { Err::<i32, _>("no") }, std::future::pending::<Result<i32, _>>()) };
///     assert_eq!(one.await, Err("no"));
/// });
/// ```
#[macro_export]
macro_rules! try_gather {
    ($($future:expr),+ $(,)?) => {
        $crate::macros::TryTogether::try_gather(($($future,)+)).await
    };
}

pin_project! {
    /// A future, or what it gave.
    pub struct Part<F: Future> {
        #[pin]
        future: Option<F>,
        output: Option<F::Output>,
    }
}

impl<F: Future> Part<F> {
    fn new(future: F) -> Self {
        Part { future: Some(future), output: None }
    }

    /// Whether it has ended.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let mut this = self.project();
        if let Some(future) = this.future.as_mut().as_pin_mut() {
            let Poll::Ready(output) = future.poll(cx) else { return false };
            this.future.set(None);
            *this.output = Some(output);
        }
        true
    }

    fn take(self: Pin<&mut Self>) -> F::Output {
        self.project().output.take().expect("every part has ended")
    }
}

impl<F: Future<Output = Result<T, E>>, T, E> Part<F> {
    fn error(self: Pin<&mut Self>) -> Option<E> {
        let output = self.project().output;
        if !matches!(output, Some(Err(_))) {
            return None;
        }
        output.take().and_then(Result::err)
    }

    fn value(self: Pin<&mut Self>) -> Option<T> {
        self.take().ok()
    }
}

/// A tuple of futures.
pub trait Together {
    /// What awaits them.
    type Gather: Future;

    /// Awaits all.
    fn gather(self) -> Self::Gather;
}

/// A tuple of futures that can fail.
pub trait TryTogether {
    /// What awaits them.
    type TryGather: Future;

    /// Awaits all, or the first failure.
    fn try_gather(self) -> Self::TryGather;
}

macro_rules! together {
    ($($gather:ident $try_gather:ident: $($future:ident $value:ident),+;)+) => { $(
        pin_project! {
            /// Several futures at once.
            #[must_use = "futures do nothing unless they are awaited"]
            pub struct $gather<$($future: Future),+> { $(#[pin] $future: Part<$future>),+ }
        }

        impl<$($future: Future),+> Future for $gather<$($future),+> {
            type Output = ($($future::Output,)+);

            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                let mut this = self.project();
                let mut ended = true;
                $(ended &= this.$future.as_mut().poll(cx);)+
                if ended { Poll::Ready(($(this.$future.as_mut().take(),)+)) } else { Poll::Pending }
            }
        }

        impl<$($future: Future),+> Together for ($($future,)+) {
            type Gather = $gather<$($future),+>;

            fn gather(self) -> Self::Gather {
                let ($($future,)+) = self;
                $gather { $($future: Part::new($future)),+ }
            }
        }

        pin_project! {
            /// Several futures at once, or the first failure.
            #[must_use = "futures do nothing unless they are awaited"]
            pub struct $try_gather<$($future: Future),+> { $(#[pin] $future: Part<$future>),+ }
        }

        impl<Error, $($value,)+ $($future: Future<Output = Result<$value, Error>>),+> Future for $try_gather<$($future),+> {
            type Output = Result<($($value,)+), Error>;

            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                let mut this = self.project();
                let mut ended = true;
                $(
                    ended &= this.$future.as_mut().poll(cx);
                    if let Some(error) = this.$future.as_mut().error() {
                        return Poll::Ready(Err(error));
                    }
                )+
                if !ended {
                    return Poll::Pending;
                }
                $(let $value = this.$future.as_mut().value();)+
                let values = (|| Some(($($value?,)+)))();
                Poll::Ready(Ok(values.expect("none has failed")))
            }
        }

        impl<Error, $($value,)+ $($future: Future<Output = Result<$value, Error>>),+> TryTogether for ($($future,)+) {
            type TryGather = $try_gather<$($future),+>;

            fn try_gather(self) -> Self::TryGather {
                let ($($future,)+) = self;
                $try_gather { $($future: Part::new($future)),+ }
            }
        }
    )+ };
}

together! {
    Gather1 TryGather1: A Va;
    Gather2 TryGather2: A Va, B Vb;
    Gather3 TryGather3: A Va, B Vb, C Vc;
    Gather4 TryGather4: A Va, B Vb, C Vc, D Vd;
    Gather5 TryGather5: A Va, B Vb, C Vc, D Vd, E Ve;
    Gather6 TryGather6: A Va, B Vb, C Vc, D Vd, E Ve, F Vf;
    Gather7 TryGather7: A Va, B Vb, C Vc, D Vd, E Ve, F Vf, G Vg;
    Gather8 TryGather8: A Va, B Vb, C Vc, D Vd, E Ve, F Vf, G Vg, H Vh;
}
